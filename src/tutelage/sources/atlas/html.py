"""A page as a web site serves it: navigation, header, article, footer."""

from __future__ import annotations

import random
from html import escape

from tutelage.sources.atlas.grammar import expand, load


def to_html(title: str, paragraphs: list[str], site: str, language: str, rng: random.Random) -> str:
    """A whole HTML page whose `<article>` is the text and whose rest is to be thrown away."""
    furniture = load("words/sites")["furniture"]
    links = rng.sample(furniture["links"], 5)
    nav = "".join(f'<li><a href="/{link.lower().replace(" ", "-")}">{escape(link)}</a></li>' for link in links)
    body = "\n".join(f"<p>{escape(text, quote=False).replace(chr(10), '<br>')}</p>" for text in paragraphs)
    aside = expand(rng.choice(furniture["aside"]), {}, rng)
    footer = expand(rng.choice(furniture["footer"]), {"site": site}, rng)
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head><meta charset="utf-8">'
        f"<title>{escape(title)} | {site}</title><style>body {{ font-family: serif }}</style></head>\n"
        f"<body>\n<header><nav><ul>{nav}</ul></nav></header>\n"
        f"<main><article><h1>{escape(title)}</h1>\n{body}\n</article></main>\n"
        f"<aside>{escape(aside)}</aside>\n<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )
