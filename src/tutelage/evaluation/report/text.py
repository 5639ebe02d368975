"""Numbers and words as a reader wants them, and how wide they are before a browser has seen them."""

from __future__ import annotations

import math
from typing import Any

THIN = "\u202f"  # narrow no-break space: between a number and its unit
SHARES = (
    "accuracy",
    "accuracies",
    "rate",
    "precision",
    "recall",
    "share",
    "fraction",
    "clipfrac",
    "/ece",
    "exposure",
    "followed",
    "agreement",
    "evasive",
    "kept",
    "answered",
    "manner",
    "noted",
    "right_tool",
    "right_arguments",
    "right_steps",
    "valid_calls",
)
MEASURES = {
    "accuracy": "right answers",
    "refusal_rate": "refused",
    "win_rate": "preferred",
    "bits_per_byte": "bits per byte",
    "nats": "nats",
    "agreement": "same likeliest token",
    "kept_share": "of the teacher's score",
    "teacher_share": "of the teacher's size",
    "parameters": "parameters",
    "exposure": "planted strings repeated",
    "followed": "ended and well-formed",
    "pii_rate": "replies with a private string",
    "exposure_bits": "exposure in bits",
    "extracted_share": "secrets drawn out",
    "z_from_chance": "standard errors from chance",
    "evasive": "declined without a reason",
    "rubric_score": "score by the hidden rubric",
    "recall": "recalled",
    "noted": "all of it noted down",
    "kept": "persona kept",
    "answered": "answered by the card",
    "manner": "in the card's manner",
    "abstention_rate": "said not to know",
    "answered_rate": "answered at all",
    "risk_area": "area under risk by coverage, by mean confidence",
    "risk_area_least": "the same, by the least sure token",
    "attack_success_rate": "attacks that succeeded",
    "harm_rate": "replies with a harmful sentence",
    "any_rate": "prompts with a harmful reply in any draw",
    "rude_rate": "rude replies",
    "alike_rate": "groups treated alike",
    "first_likelier_rate": "likelier of the first group",
    "gap": "difference of log-probs a token",
    "spread": "its absolute value",
}


def clean(text: str) -> str:
    """Text that any browser and any UTF-8 file can hold: control characters become their visible pictures."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    return "".join(_visible(c) for c in text)


def _visible(c: str) -> str:
    code = ord(c)
    if code < 32 and c not in "\n\t":
        return chr(0x2400 + code)
    if 127 <= code < 160 or code & 0xFFFE == 0xFFFE:
        return "\ufffd"
    return c


def finite(value: Any) -> float | None:
    """A number from a manifest or a journal (where NaN is a string); None for whatever is no finite number."""
    number = as_float(value)
    return number if number is not None and math.isfinite(number) else None


def as_float(value: Any) -> float | None:
    """A number, finite or not; None for what is no number at all."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def count(value: float, noun: str = "") -> str:
    """`4,812`, `1.21 M`, `3.4 B`; with `noun`, `4,812 documents` and `1 document`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            shown = f"{value / size:#.3g}".removesuffix(".") + THIN + unit
            break
    else:
        shown = f"{value:,.0f}" if abs(value) < 100_000 else f"{value / 1e3:,.0f}{THIN}k"
    if not noun:
        return shown
    return f"{shown} {noun}" if shown != "1" else f"{shown} {noun.removesuffix('s')}"


def number(value: float | None) -> str:
    """Three significant digits or so: `1.88`, `0.972`, `12.4`, `1,024`, `3.0e-05`; NaN is said."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if size != 0 and size < 1e-3:
        shown = f"{value:.1e}"
    elif size >= 1000:
        shown = f"{value:,.0f}" if size < 1e6 else count(value)
    else:
        shown = f"{value:.{3 if size < 1 else 2 if size < 10 else 1}f}"
    if float(value).is_integer() and size < 1000:
        shown = str(int(value))
    return shown.replace("-", "−", 1) if value < 0 else shown


def percent(value: float) -> str:
    """`97.4 %`; whole numbers without a decimal; what is not nothing is never shown as 0 %."""
    if 0 < value < 0.0005:
        return f"<{THIN}0.1{THIN}%"
    shown = f"{100 * value:.1f}".removesuffix(".0")
    return f"{shown}{THIN}%"


def is_share(metric: str) -> bool:
    """Whether a metric is a proportion, to be shown in per cent."""
    return metric.endswith(SHARES)


def quantity(metric: str, value: float | None) -> str:
    """A value in its metric's unit; `–` when there is none."""
    if value is None or not math.isfinite(value):
        return number(value)
    return percent(value) if is_share(metric) else number(value)


def interval(metric: str, low: float | None, high: float | None) -> str:
    """`94–98 %`: the interval in the metric's unit, empty when there is none."""
    if low is None or high is None:
        return ""
    if is_share(metric):
        return f"{percent(low).removesuffix(THIN + '%')}–{percent(high)}"
    return f"{number(low)} to {number(high)}"


def duration(seconds: float) -> str:
    """`3.1 s`, `8 min 12 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN}s"
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"


def bytes_size(value: float) -> str:
    """`4.8 MB`, in powers of ten."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f}{THIN}{unit}"
    return f"{value:.0f}{THIN}B"


def text_width(text: str, size: float) -> float:
    """Width in pixels in a wide sans-serif face (Verdana, DejaVu), so that narrower ones fit as well."""
    return size * sum(_em(c) for c in text)


def _em(c: str) -> float:
    if c in "iljI.,:;'|! \u202f":
        return 0.36
    if c in "mwMW%@—…→":
        return 0.97
    if ord(c) >= 0x1100:  # Hangul, CJK and other full-width scripts
        return 1.05
    return 0.72 if c.isupper() else 0.65


def wrap(text: str, width: float, size: float, max_lines: int = 3) -> list[str]:
    """Break `text` into lines no wider than `width` pixels; what does not fit into `max_lines` ends in `…`."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(joined, size) <= width:
            lines[-1] = joined
            continue
        pieces = _split(word, width, size)
        lines = [*lines, *pieces] if lines[-1] else pieces if lines == [""] else [*lines[:-1], *pieces]
    if len(lines) <= max_lines:
        return lines
    last = lines[max_lines - 1]
    while last and text_width(last + "…", size) > width:
        last = last[:-1]
    return [*lines[: max_lines - 1], last.rstrip() + "…"]


def _split(word: str, width: float, size: float) -> list[str]:
    """Pieces of a word that is too long for a line, at a hyphen if there is one."""
    pieces = [""]
    for c in word:
        if pieces[-1] and text_width(pieces[-1] + c, size) > width:
            head, hyphen, tail = pieces[-1].rpartition("-")
            after_hyphen = head and text_width(tail + c, size) <= width
            pieces[-1:] = [head + hyphen, tail] if after_hyphen else [pieces[-1], ""]
        pieces[-1] += c
    return pieces
