"""What the pages are about, and how one is made: templates that escape all text, files under names with their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from tutelage.evaluation.report.page import PALETTE
from tutelage.labels.service import Labels
from tutelage.run.recipe import Specs
from tutelage.serve.keys import Keys
from tutelage.serve.models import Models
from tutelage.store.engine import Store

HERE = Path(__file__).parent
STATIC = HERE / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
        "frame-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
NAVIGATION = (
    ("Rank", "/rank"), ("Compare", "/compare"), ("Runs", "/runs"), ("Data", "/data"), ("Completions", "/completions"),
    ("Board", "/board"), ("Report", "/report"),
)  # fmt: skip
ANNOTATOR = "tutelage_annotator"


@dataclass(frozen=True, eq=False)
class Site:
    """A run's folder (None: models from elsewhere), the store of labels and completions, models, and who is let in."""

    run: Path | None
    store: Store | None
    models: Models
    specs: Specs
    keys: Keys = field(default_factory=Keys)

    @property
    def labels(self) -> Labels | None:
        """The service of labels; None without a store."""
        return None if self.store is None else Labels(self.store)

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every static file by its name; the colours and fonts are those of reports."""
        own = {str(path.relative_to(STATIC)): path for path in STATIC.rglob("*") if path.suffix in TYPES}
        return {**own, PALETTE.name: PALETTE}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Name of every static file → the beginning of its hash."""
        return {name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for name, path in self.files.items()}

    @cached_property
    def templates(self) -> Environment:
        """Autoescaped; what a template misses is an error."""
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_printable,
        )
        environment.globals.update(navigation=NAVIGATION, static=lambda name: f"/static/{self.hashes[name]}/{name}")
        environment.filters["query"] = lambda text: quote(str(text), safe="", errors="replace")
        return environment

    def page(self, request: Request, name: str, status: int = 200, **context: Any) -> Response:
        """A template as an answer."""
        text = self.templates.get_template(f"{name}.html.jinja").render(
            here=request.url.path,
            run_name=self.run.name if self.run else "",
            has_door=bool(self.keys),
            **context,
        )
        return HTMLResponse(text, status)


def site_of(request: Request) -> Site:
    """The site that a request is for."""
    site: Site = request.app.state.site
    return site


def annotator_of(request: Request) -> str:
    """The name under which somebody ranks, or ""."""
    return unquote(request.cookies.get(ANNOTATOR, ""))


async def form_of(request: Request) -> Callable[[str], str]:
    """The fields of a form that was sent, "" for one that was not."""
    fields = parse_qs((await request.body()).decode(errors="replace"), keep_blank_values=True)
    return lambda name: fields.get(name, [""])[-1].strip()


def _printable(value: Any) -> Any:
    """Control characters of a model would make a page invalid; halves of surrogate pairs could not be sent at all."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(mark if mark in "\n\t" or mark.isprintable() or mark.isspace() else "\ufffd" for mark in value)
