"""What the pages of a run are made of: curves that keep peaks, a cursor, what-if by the rules themselves, evidence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tutelage.curation.decontaminate import Item
from tutelage.curation.evidence import evidence, item_evidence, merged
from tutelage.curation.pipeline import Settings, curate
from tutelage.curation.recorded import cleaned_texts, read_recorded, what_if
from tutelage.curation.rules import resolve_thresholds
from tutelage.curation.selftest import ITEM, planted
from tutelage.errors import RecipeError
from tutelage.run.journal import Journal
from tutelage.sources.store import read_documents
from tutelage.web.curves import ends, picked, read_branches, read_tail, thinned
from tutelage.web.decided import pieces


def journal(folder: Path, values: list[float]) -> Journal:
    """Rows 1, 2, … of one metric."""
    book = Journal(folder / "journal.jsonl")
    for step, value in enumerate(values, start=1):
        book.log(step, {"loss": value})
    return book


def test_thinned_curves_keep_every_peak_and_gap() -> None:
    points = [(float(step), 1.0) for step in range(10_000)]
    points[1234], points[8765] = (1234.0, 99.0), (8765.0, -99.0)
    broken = [*points[:5000], (5000.0, None), *points[5001:]]
    thin = thinned(broken)
    assert len(thin) <= 600
    assert {99.0, -99.0, None} <= {value for _, value in thin}
    assert thin[0] == broken[0]
    assert thin[-1] == broken[-1]
    assert [step for step, _ in thin] == sorted(step for step, _ in thin)
    assert thinned(points[:600]) == points[:600]


def test_a_value_that_is_no_number_is_a_gap_and_is_told(tmp_path: Path) -> None:
    book = journal(tmp_path, [3.0, math.nan, math.inf, 2.0])
    (curve,) = picked(read_tail(book.path, "").rows)
    assert curve["values"] == [3.0, None, None, 2.0]
    assert curve["broken"] == [2.0, 3.0]


def test_a_cursor_gives_what_came_since_and_all_of_another_journal(tmp_path: Path) -> None:
    book = journal(tmp_path, [3.0, 2.0])
    first = read_tail(book.path, "")
    assert (first.fresh, [row["step"] for row in first.rows]) == (True, [1, 2])
    assert read_tail(book.path, first.cursor).rows == []
    book.log(3, {"loss": 1.0})
    with book.path.open("a") as file:
        file.write('{"step": 4, "ti')  # half a line, while it is written
    second = read_tail(book.path, first.cursor)
    assert (second.fresh, [row["step"] for row in second.rows]) == (False, [3])
    book.rewind(1)
    book.log(2, {"loss": 5.0})
    third = read_tail(book.path, second.cursor)
    assert (third.fresh, [row["step"] for row in third.rows]) == (True, [1, 2])
    for nonsense in ("x", "..", f"{third.cursor}9", "é.²", "." * 100):
        assert [row["step"] for row in read_tail(book.path, nonsense).rows] in ([1, 2], [])


def test_the_ends_of_a_journal(tmp_path: Path) -> None:
    book = journal(tmp_path, [5.0] * 2000)
    with book.path.open("a") as file:
        file.write('{"step": 2001')
    assert [row["step"] for row in ends(book.path)] == [1, 2000]
    book.path.write_text('{"st')
    assert ends(book.path) == ({}, {})


def test_a_resumed_run_leaves_a_branch(tmp_path: Path) -> None:
    book = journal(tmp_path, [5.0, 4.0, 3.0])
    book.rewind(1)
    book.log(2, {"loss": 4.5})
    book.rewind(3)  # nothing is left behind
    book.log(3, {"loss": 3.5})
    book.rewind(2)
    branches = read_branches(book.path)
    assert [[row["loss"] for row in branch] for branch in branches] == [[4.0, 3.0], [3.5]]
    (curve,) = picked(read_tail(book.path, "").rows, branches)
    assert curve["values"] == [5.0, 4.5]
    assert curve["branches"] == [{"steps": [2.0, 3.0], "values": [4.0, 3.0]}, {"steps": [3.0], "values": [3.5]}]


def test_what_if_decides_as_the_stage_would(lived: Path) -> None:
    corpus, documents = lived / "own", lived / "raw"
    recorded = read_recorded(corpus, documents)
    assert recorded.all_pairs
    assert what_if(recorded, {}).decisions == what_if(recorded, dict(recorded.settings.thresholds)).decisions
    assert [d.kept for d in what_if(recorded, {}).decisions] == [d["kept"] for d in recorded.decisions]
    other = {"too_few_words": 1.0, "stop_words": 0.0, "sentences": 0.0, "digits": 0.004}
    rows = read_documents(documents).to_pylist()
    again = curate(rows, [], Settings(resolve_thresholds(other))).decisions
    found = what_if(recorded, other)
    assert list(found.decisions) == again
    assert found.now_kept
    assert found.now_removed
    assert found.kept == sum(decision.kept for decision in again)
    with pytest.raises(RecipeError, match="no such rule"):
        what_if(recorded, {"spam_scor": 1.0})


def test_a_corpus_without_pairs_and_a_large_one_are_asked_too(lived: Path, tmp_path: Path) -> None:
    for name in ("curation.json", "decisions.parquet", "metrics.parquet"):
        (tmp_path / name).write_bytes((lived / "own" / name).read_bytes())
    recorded = read_recorded(tmp_path, lived / "raw")
    assert not recorded.all_pairs
    assert [d.kept for d in what_if(recorded, {}).decisions] == [d["kept"] for d in recorded.decisions]
    sampled = read_recorded(lived / "own", lived / "raw", most=20)
    assert (len(sampled.decisions), sampled.total) == (20, recorded.total)
    assert len(what_if(sampled, {"too_few_words": 1.0}).decisions) == 20


def test_recorded_spans_are_places_in_the_text_as_it_was_measured(lived: Path) -> None:
    recorded = read_recorded(lived / "own", lived / "raw")
    private = [at for at, one in enumerate(recorded.decisions) if one["kept"] and one["pii"]]
    rows = cleaned_texts(lived / "raw", [recorded.places[at] for at in private], recorded.lines)
    span = recorded.decisions[private[0]]["pii"][0]
    assert rows[0]["text"][span["start"] : span["end"]] == "ana@mail.example.org"


@pytest.mark.parametrize("rule", [
    "encoding", "hash_ratio", "ellipsis_ratio", "bullet_lines", "ellipsis_lines", "duplicate_lines",
    "duplicate_paragraph_chars", "top_2_gram_chars", "duplicate_7_gram_chars", "short_duplicate_10_gram_chars",
    "spam_score", "call_to_action", "url_share", "link_farm", "keyword_stuffing", "punctuated_lines", "short_lines",
    "few_word_lines", "numeric_lines", "upper_lines", "upper_case", "curly_brackets", "lorem_ipsum", "javascript",
    "policy_phrases", "digits", "non_alphanumeric", "code_generated",
])  # fmt: skip
def test_a_rule_shows_what_it_found(rule: str) -> None:
    text = planted()[rule][-1]["text"]
    spans = evidence(rule, text)
    assert spans
    assert spans == merged(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert "".join(text for text, _ in pieces(text, [(*span, "x") for span in spans])).strip(" …") in text


def test_evidence_is_what_the_rule_is_about() -> None:
    text = "Good day.\nGood day.\nSee lorem ipsum {here}."
    assert [text[a:b] for a, b in evidence("lorem_ipsum", text)] == ["lorem ipsum"]
    assert evidence("duplicate_lines", text) == [(10, 19)]
    assert [text[a:b] for a, b in evidence("curly_brackets", text)] == ["{", "}"]
    assert evidence("too_few_words", text) == evidence("duplicate", text) == []
    held = f"They asked: what is the capital of Freedonia? It is {ITEM.answer}, they said."
    assert [held[a:b] for a, b in item_evidence(ITEM, held)] == ["what is the capital of Freedonia", "Chicolini"]
    assert item_evidence(Item("empty", "", ""), held) == []


def test_branches_are_whole_lines(tmp_path: Path) -> None:
    book = journal(tmp_path, [5.0, 4.0])
    book.rewind(0)
    rows = [json.loads(line) for line in (tmp_path / "journal.branches.jsonl").read_text().splitlines()]
    assert [(row["branch"], row["step"]) for row in rows] == [(1, 1), (1, 2)]
