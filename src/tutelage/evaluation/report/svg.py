"""SVG as text: elements with escaped attributes and content, and the style a picture needs on its own."""

from __future__ import annotations

from html import escape

from tutelage.evaluation.report.text import clean


def tag(name: str, *children: str, text: str | None = None, **attributes: str | float | None) -> str:
    """One element; `text` is escaped, `children` are elements already. `cls` is `class`, `a_b` is `a-b`."""
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        shown = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
        parts.append(f' {"class" if key == "cls" else key.replace("_", "-")}="{escape(clean(shown))}"')
    inside = (escape(clean(text)) if text is not None else "") + "".join(children)
    return f"<{name}{''.join(parts)}>{inside}</{name}>" if inside else f"<{name}{''.join(parts)}/>"


def document(
    width: float, height: float, title: str, description: str, *children: str, cls: str = "", role: str = "img"
) -> str:
    """A whole picture that scales with its place; title and description are for those who do not see it.

    One with links in it is a `group`: what is in an `img` is not there for them.
    """
    return tag(
        "svg",
        tag("title", text=title),
        tag("desc", text=description),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role=role,
        aria_label=title,
        cls=cls or None,
    )


def standalone(picture: str, style: str) -> str:
    """The same picture as a file of its own, for `<img>` in documentation: it carries its style with it."""
    opening, rest = picture.split(">", 1)
    return f"{opening}>{tag('style', text=style)}{rest}\n"
