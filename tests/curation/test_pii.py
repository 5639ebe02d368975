"""Private strings: what is found, and above all what is not."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.curation.pii import find_pii, luhn, replace_pii
from tutelage.curation.pii_checks import iban_ok

PRIVATE = {
    "Write to ana.b-3@mail.example.org today.": ("email", "ana.b-3@mail.example.org"),
    "To ask for Ana, call (602) 555-0143 in the evening.": ("phone", "(602) 555-0143"),
    "Her number is 905-555-0117, I think.": ("phone", "905-555-0117"),
    "Ring +44 20 7946 0018 now.": ("phone", "+44 20 7946 0018"),
    "Appelez le 06 12 34 56 78 demain.": ("phone", "06 12 34 56 78"),
    "My phone number is 467 3395.": ("phone", "467 3395"),
    "It was edited from 81.2.69.142 at night.": ("ip", "81.2.69.142"),
    "The host is 2001:4860:4860::8888 there.": ("ip", "2001:4860:4860::8888"),
    "Her social security number is 514-69-0360.": ("ssn", "514-69-0360"),
    "Paid with 4539 1488 0343 6467 last week.": ("card", "4539 1488 0343 6467"),
    "Send it to GB82 WEST 1234 5698 7654 32 soon.": ("iban", "GB82 WEST 1234 5698 7654 32"),
    "Use the key AKIAIOSFODNN7EXAMPLE here.": ("secret", "AKIAIOSFODNN7EXAMPLE"),
    "The password is hunter2hunter2.": ("secret", "hunter2hunter2"),
}
HARMLESS = [
    "On 2024-01-15 and on 15.01.2024 it rained; the war of 1914-1918 was long.",
    "12345678 + 87654321 = 99999999 and 3 - 4 = -1, 100-200-3000 = -3100.",
    "Call the function with 1000000 items. There were 1,234,567,890 stars.",
    "Version 1.2.3.4 listens on 127.0.0.1 and 192.168.0.1 at 12:30:45.",
    "Pi is 3.14159265358979323846 and the order 1234 5678 9012 3456 is open.",
    "std::vector<int> a; b::c(1); the ratio is 16:9:4:1.",
    "The number 000-12-3456 and 666-12-3456 and 900-12-3456 are nobody's.",
    "GB00 WEST 1234 5698 7654 32 has wrong check digits.",
    "Populations: 67 391 582 and 47 450 795; the token is important.",
    "The key to the password was a secret that they kept.",
]


@pytest.mark.parametrize(("text", "expected"), PRIVATE.items())
def test_private_strings_are_found_whole(text: str, expected: tuple[str, str]) -> None:
    spans = find_pii(text)
    assert [(span.kind, text[span.start : span.end]) for span in spans] == [expected]
    replaced = replace_pii(text, spans)
    assert expected[1] not in replaced
    assert spans[0].replacement in replaced


@pytest.mark.parametrize("text", HARMLESS)
def test_dates_sums_and_code_are_left_alone(text: str) -> None:
    assert find_pii(text) == []


@given(st.text(alphabet="0123456789 .-+()@:abGBx", max_size=60))
def test_spans_are_sorted_and_do_not_overlap(text: str) -> None:
    spans = find_pii(text)
    assert all(one.end <= two.start for one, two in pairwise(spans))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)


@given(st.text(alphabet="0123456789", min_size=2, max_size=18), st.integers(1, 9))
def test_luhn_notices_every_changed_digit(digits: str, shift: int) -> None:
    check = next(d for d in "0123456789" if luhn(digits + d))
    changed = str((int(digits[0]) + shift) % 10) + digits[1:] + check
    assert not luhn(changed)


def test_iban_ends_where_its_country_says() -> None:
    assert iban_ok("DE89 3704 0044 0532 0130 00 is mine") == len("DE89 3704 0044 0532 0130 00")
    assert iban_ok("DE89 3704 0044 0532 0130 01") == 0
    assert iban_ok("XX89 3704 0044 0532 0130 00") == 0


KINDS = {"PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "US_SSN": "ssn"}
KINDS |= {"IBAN_CODE": "iban", "EMAIL_ADDRESS": "email", "IP_ADDRESS": "ip"}


def test_labelled_sentences() -> None:
    path = Path(__file__).parents[2].parent / "shared/data/presidio_pii/synth_dataset_v2_first1000.json"
    if not path.exists():
        pytest.skip("the labelled sentences (presidio_pii) are not on this machine")
    counts: Counter[str] = Counter()
    for row in json.loads(path.read_text(encoding="utf-8")):
        found = [(span.start, span.end, span.kind) for span in find_pii(row["full_text"])]
        gold = [s for s in row["spans"] if s["entity_type"] in KINDS]
        for s in gold:
            start, end, kind = s["start_position"], s["end_position"], KINDS[s["entity_type"]]
            counts["planted"] += 1
            counts["found"] += any(a <= start + 1 and b >= end - 1 and k == kind for a, b, k in found)
        places = [(s["start_position"], s["end_position"]) for s in gold]
        counts["false"] += sum(not any(a < end and start < b for start, end in places) for a, b, _ in found)
    assert counts["found"] >= 0.95 * counts["planted"]
    assert counts["false"] <= 0.05 * counts["planted"]
