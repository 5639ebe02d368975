"""What the API says when it does not do what was asked: always `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.errors import TutelageError

INVALID = "invalid_request_error"
RETRY_SECONDS = 1


class RefusalError(Exception):
    """An error of the API with its status; `param` names the field, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """As the OpenAI protocol has it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None, code: str | None = None) -> RefusalError:
    """400: a field that is wrong, or that cannot be honoured."""
    return RefusalError(400, message, param=param, code=code)


def unknown_model(name: str, names: list[str]) -> RefusalError:
    """404 that lists the models there are."""
    message = f"there is no model {name!r:.200}; served are {', '.join(names) or 'none'}"
    return RefusalError(404, message, param="model", code="model_not_found")


def unavailable(message: str, code: str) -> RefusalError:
    """503: not now; clients come again after as many seconds as Retry-After says."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return RefusalError(503, message, kind="service_unavailable", code=code, headers=headers)


def refusal_of(error: Exception) -> RefusalError:
    """Any error as one of the API; what only the server's log should tell is not told."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, TutelageError):
        return invalid(f"{error.message}; {error.hint}" if error.hint else error.message, None)
    return RefusalError(500, "the server failed; its log has the reason", kind="server_error", code="internal_error")
