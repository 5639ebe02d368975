"""Tokens that let a client in: only their hashes are held, and a file of them is safe to copy."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from tutelage.errors import ResourceError
from tutelage.serve.browsers import Browsers

VARIABLE = "TUTELAGE_API_KEYS"
PREFIX = "tut-"


class Keys:
    """The hashes of the tokens that are let in; none: everybody is."""

    def __init__(self, hashes: Sequence[str] = ()) -> None:
        self._hashes = list(hashes)
        self.browsers = Browsers()

    def __bool__(self) -> bool:
        return bool(self._hashes)

    @property
    def first(self) -> str:
        """The owner who stands first, for whoever started the server."""
        return self._hashes[0]

    def owner(self, authorization: str) -> str | None:
        """Whose a request is, by its header: the token's hash, or None for a token that is not known."""
        scheme, _, token = authorization.partition(" ")
        return self.owner_of(token.strip()) if scheme.lower() == "bearer" else None

    def owner_of(self, token: str) -> str | None:
        """The token's hash, or None for a token that is not known."""
        given = hashed(token)
        found = [known for known in self._hashes if hmac.compare_digest(known, given)]
        return found[0] if found else None


def hashed(token: str) -> str:
    """SHA-256: tokens are random, so nothing slower is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(file: Path | None) -> Keys:
    """Those of a file, of lines `name sha256`, and of TUTELAGE_API_KEYS, plain and separated by commas."""
    hashes = [hashed(token.strip()) for token in os.environ.get(VARIABLE, "").split(",") if token.strip()]
    if file is not None:
        for number, line in enumerate(_lines(file), start=1):
            parts = line.split()
            if not parts or line.startswith("#"):
                continue
            if len(parts) != 2 or len(parts[1]) != 64:
                raise ResourceError(f"{file}:{number} is not `name sha256`", hint="make keys by `--new-key NAME`")
            hashes.append(parts[1].lower())
        if not hashes:
            raise ResourceError(f"{file} holds no key", hint="make one: tutelage serve --keys FILE --new-key NAME")
    return Keys(hashes)


def add_key(file: Path, name: str) -> str:
    """A new token, whose hash is put into the file; the token itself is shown once and kept nowhere."""
    if not name or name.split() != [name] or name.startswith("#"):
        raise ResourceError(f"{name!r} is no name for a key", hint="a word, such as `anna` or `labelling`")
    token = PREFIX + secrets.token_urlsafe(32)
    existed = file.is_file()
    with file.open("a", encoding="utf-8") as out:
        out.write(f"{name} {hashed(token)}\n")
    if not existed:
        file.chmod(0o600)
    return token


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError(f"{file} cannot be read: {error}", hint="make one by `--new-key NAME`") from error
