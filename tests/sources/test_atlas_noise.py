"""The labels of atlas: every defect is what its label says, and what has no label is sound."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from tutelage.sources.atlas.atlas import build_atlas, choose_formats, entity_pages
from tutelage.sources.atlas.facts import build_facts
from tutelage.sources.atlas.noise import add_noise, jaccard
from tutelage.sources.atlas.pages import Page
from tutelage.sources.atlas.pii import KINDS, iban, kind_and_value, luhn_digit, private_string
from tutelage.sources.atlas.requests import all_requests
from tutelage.sources.atlas.settings import AtlasSettings
from tutelage.sources.atlas.skills import skill_pages

LABELS = {"duplicate", "near_duplicate", "spam", "ad", "harmful", "low_quality", "encoding", "boilerplate", "language",
          "leak"}  # fmt: skip


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    facts, requests, rng = build_facts(None, 1), all_requests(1), random.Random(1)
    clean = entity_pages(facts, 6, rng) + skill_pages(requests, 1.0, rng)
    choose_formats(clean, 0.3, rng)
    return add_noise(clean, facts, requests, 0.14, rng)


def test_every_label_is_of_the_contract_and_every_kind_is_planted(pages: list[Page]) -> None:
    found = {label for page in pages for label in page.labels if ":" not in label}
    assert found == LABELS
    for page in pages:
        for label in page.labels:
            if label.startswith("pii:"):
                assert page.text.count(kind_and_value(label)[1]) == 1
            else:
                assert label in LABELS or label.startswith("cluster:")
    kinds = {kind_and_value(label)[0] for page in pages for label in page.labels if label.startswith("pii:")}
    assert kinds == set(KINDS)


def test_copies_share_a_cluster_with_their_original(pages: list[Page]) -> None:
    clusters: dict[str, list[Page]] = defaultdict(list)
    for page in pages:
        for label in page.labels:
            if label.startswith("cluster:"):
                clusters[label].append(page)
    assert clusters
    for members in clusters.values():
        original, copy = members
        assert {"duplicate", "near_duplicate"} & set(copy.labels)
        assert not {"duplicate", "near_duplicate"} & set(original.labels)
        similarity = jaccard(original.text, copy.text)
        assert similarity == 1.0 if "duplicate" in copy.labels else 0.85 <= similarity < 1.0
        assert original.format == copy.format


def test_unlabelled_pages_differ_from_one_another_and_are_long_enough(pages: list[Page]) -> None:
    sound = [page for page in pages if not page.labels]
    assert all(20 <= len(page.text.split()) <= 260 for page in sound if page.format != "code")
    by_kind: dict[str, list[Page]] = defaultdict(list)
    for page in sound:
        by_kind[page.kind].append(page)
    rng = random.Random(0)
    for group in by_kind.values():
        sample = rng.sample(group, min(40, len(group)))
        assert max(jaccard(a.text, b.text) for i, a in enumerate(sample) for b in sample[:i]) < 0.6


def test_no_noise_means_no_labels() -> None:
    atlas = build_atlas(AtlasSettings(facts=60, documents_per_entity=2, noise=0.0), 0)
    assert not any(row["labels"] for row in atlas.documents)


def luhn_valid(number: str) -> bool:
    digits = [int(sign) for sign in reversed(number)]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


def iban_valid(text: str) -> bool:
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def test_check_digits_of_known_numbers() -> None:
    assert luhn_digit("7992739871") == "3"
    assert iban("GB", "WEST12345698765432") == "GB82WEST12345698765432"
    assert iban("DE", "370400440532013000") == "DE89370400440532013000"


def test_private_strings_are_valid() -> None:
    rng = random.Random(5)
    for _ in range(200):
        card = private_string("card", "Ada", "Stone", rng).replace(" ", "")
        assert len(card) == 16
        assert luhn_valid(card)
        assert iban_valid(private_string("iban", "Ada", "Stone", rng).replace(" ", ""))
        assert "555" in private_string("phone", "Ada", "Stone", rng)
        assert "@" in private_string("email", "Ada", "Stone", rng)
        assert all(0 < int(part) < 255 for part in private_string("ipv4", "Ada", "Stone", rng).split("."))
