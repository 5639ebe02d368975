"""Raw text to clean text: main content of HTML, broken encodings mended, Unicode and line ends made uniform."""

from __future__ import annotations

import logging
import re
import unicodedata
from dataclasses import dataclass

from tutelage.curation.prose import mojibake_count

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANKS = re.compile(r"\n{3,}")
_SUSPICIOUS = re.compile(r"[ÃÂâÅÄ][\u0080-\uffff]")
_SPACE = re.compile(r"([ \t\n]+)")
_LONE = re.compile(r"Ã (?=[\s.,;:!?])|Ã(?=\s)")
_NOT_CONTENT = ("script", "style", "nav", "header", "footer", "aside", "form", "noscript", "template", "svg", "iframe")


@dataclass(frozen=True)
class Extracted:
    """Clean text and what was done to get it."""

    text: str
    raw_characters: int
    title: str | None = None
    repaired: bool = False  # a broken encoding was mended
    fallback: bool = False  # the main extractor found nothing


def extract(raw: str, form: str) -> Extracted:
    """Clean `raw` of format `form` (text, markdown, html, code)."""
    title, fallback, text = None, False, raw
    if form == "html":
        text, title, fallback = html_to_text(raw)
    mended = mend_encoding(text)
    return Extracted(tidy(mended, code=form == "code"), len(raw), title, mended != text, fallback)


def tidy(text: str, *, code: bool = False) -> str:
    """NFC, `\\n` line ends, no control or zero-width characters; prose also loses trailing and surplus white space."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _CONTROL.sub("", text)
    if code:
        return text.strip("\n")
    text = text.replace("\u00a0", " ").replace("\u2028", "\n").replace("\u2029", "\n\n")
    return _BLANKS.sub("\n\n", _TRAILING.sub("", text)).strip()


def mend_encoding(text: str) -> str:
    """Undo UTF-8 read as cp1252 or latin-1, whole or else word by word, where that removes its traces."""
    if not _SUSPICIOUS.search(text):
        return text
    mended = _mend(text)
    if mended is None:
        # lost bytes or sound text beside the broken keep the whole from being undone: go word by word
        mended = "".join(_mend(part) or part for part in _SPACE.split(text))
    # "à" became "Ã" and a no-break space, which HTML extraction has made a plain one
    return _LONE.sub("à", mended) if mended != text else text


def _mend(text: str) -> str | None:
    before = mojibake_count(text)
    if not before:
        return None
    better = None
    for _ in range(2):  # text is sometimes broken twice
        candidate = _undo(better or text)
        if candidate is None or mojibake_count(candidate) >= before:
            break
        better, before = candidate, mojibake_count(candidate)
        if not before:
            break
    return better


def _undo(text: str) -> str | None:
    try:
        return b"".join(map(_byte, text)).decode("utf-8")
    except UnicodeError:
        return None


def _byte(character: str) -> bytes:
    # cp1252 leaves five bytes undefined, which decoders pass through as latin-1 control characters
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")


def html_to_text(html: str) -> tuple[str, str | None, bool]:
    """Main text, title and whether the plain fallback was needed because trafilatura found nothing."""
    import trafilatura
    from lxml import etree
    from lxml import html as lxml_html

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs every page it finds nothing in
    try:
        tree = lxml_html.fromstring(html.encode("utf-8", "replace"), parser=lxml_html.HTMLParser(encoding="utf-8"))
    except (etree.LxmlError, ValueError):
        return "", None, True
    found = tree.find(".//title")
    title = " ".join((found.text_content() if found is not None else "").split()) or None
    text = trafilatura.extract(
        tree, include_comments=False, include_tables=True, deduplicate=False, with_metadata=False, favor_recall=True
    )
    if text:
        return str(text), title, False
    tree = lxml_html.fromstring(html.encode("utf-8", "replace"), parser=lxml_html.HTMLParser(encoding="utf-8"))
    return _plain(tree), title, True


def _plain(tree: object) -> str:
    """Every visible text, a block to a line, without navigation."""
    from lxml import etree

    assert isinstance(tree, etree._Element)
    etree.strip_elements(tree, *_NOT_CONTENT, "title", with_tail=False)
    lines = []
    for element in tree.iter(
        "p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "pre", "blockquote", "dd", "dt"
    ):
        line = " ".join("".join(element.itertext()).split())
        if line:
            lines.append(line)
    return "\n\n".join(lines) or " ".join("".join(tree.itertext()).split())
