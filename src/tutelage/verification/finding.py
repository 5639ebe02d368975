"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "fails", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One claim about one subject, whether it holds, and the numbers behind that."""

    subject: str
    claim: str
    verdict: Verdict
    detail: str = ""


def finding(subject: str, claim: str, holds: bool, detail: str = "") -> Finding:
    """A claim that was checked."""
    return Finding(subject, claim, "holds" if holds else "fails", detail)


def unchecked(subject: str, claim: str, why: str) -> Finding:
    """A claim that could not be checked here, and why."""
    return Finding(subject, claim, "not checked", why)
