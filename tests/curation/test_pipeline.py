"""Rules, decisions, conservation, ground truth, and the stage from Parquet to Parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tutelage.curation.decontaminate import Item
from tutelage.curation.groundtruth import evaluate
from tutelage.curation.pipeline import Settings, curate, decide_all
from tutelage.curation.rules import RULES, decide, resolve_thresholds
from tutelage.curation.selftest import GOOD, self_test
from tutelage.errors import DataError, RecipeError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import Journal
from tutelage.run.stage import StageRun
from tutelage.sources.store import write_documents, write_jsonl
from tutelage.stages.configs import CurateConfig
from tutelage.stages.curate import run as run_curate

OTHER = (
    "Le musée de la ville se trouve dans une vieille maison près du marché. On y montre des cartes, des outils et des "
    "lettres que les marins ont écrites pendant les longs voyages. Les enfants de l'école viennent le mardi, et une "
    "femme du quartier leur raconte comment on pêchait dans la rivière quand elle était jeune."
)
SPANISH = (
    "El mercado del pueblo abre los sábados por la mañana. La gente compra pan, queso y frutas, y muchos se quedan a "
    "hablar en la plaza hasta la hora de comer. En el verano hay música por la noche, y los niños juegan cerca de la "
    "fuente que construyeron los abuelos de sus abuelos."
)
BROKEN = (
    "Ma grand-mère préparait une soupe à l'oignon le dimanche. Elle mettait la table avec soin, et nous étions tous là "
    "avant midi. Après le repas, mon père allait dormir un peu, et les cousins sortaient jouer près de la forêt."
)
GERMAN = (
    "Der Fluss entspringt in den Bergen und fließt durch die alte Stadt nach Süden. Im Frühling schmilzt der Schnee, "
    "und die Felder an der unteren Brücke stehen eine Woche lang unter Wasser, was die Vögel sehr freut."
)
TASK = {"id": "t1", "task": "chat", "kind": "fact", "answer": "Chicolini", "meta": {"decontaminate": True}}
TASK["messages"] = [{"role": "user", "content": "What is the capital of Freedonia?"}]


def _row(text: str, *labels: str, form: str = "text", date: str | None = None) -> dict[str, Any]:
    identity = hashlib.sha256(f"{text}{labels}".encode()).hexdigest()[:16]
    return {
        "id": identity, "text": text, "source": "site", "url": None, "title": None, "date": date, "licence": None,
        "language": None, "format": form, "labels": list(labels),
    }  # fmt: skip


def _rows() -> list[dict[str, Any]]:
    boats = GOOD.replace("quiet boat", "boat")
    return [
        _row(GOOD, "cluster:1", date="2020-01-01"),
        _row(boats, "near_duplicate", "cluster:1"),
        _row(GOOD.upper().lower(), "duplicate", "cluster:1"),
        _row(OTHER),
        _row(SPANISH),
        _row(GERMAN, "language"),
        _row(BROKEN.encode().decode("cp1252"), "encoding"),
        _row("BUY NOW!!! Cheap watches at https://cheap.example, free shipping! Click here! " * 3, "spam"),
        _row("How to hurt a neighbour. First, wait until nobody is near. " + SPANISH[:120] + GOOD[:100], "harmful"),
        _row("def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n", form="code"),
        _row(
            f"The letter of the boatman. Write to ana@mail.example.org. {GOOD[300:]} It is late.",
            "pii:email:ana@mail.example.org",
        ),
        _row(f"A list of the test. {TASK['messages'][0]['content']} It is Chicolini. {SPANISH[120:]}", "leak"),
        _row(" ".join(["amber", "bronze"] * 40), "low_quality"),
    ]


def test_no_rule_is_dead() -> None:
    assert [name for name, fired in self_test().items() if not fired] == []


def test_every_planted_defect_is_found_and_nothing_else() -> None:
    rows = _rows()
    curated = curate(
        rows, [Item("t1", "What is the capital of Freedonia?", "Chicolini")], Settings(resolve_thresholds({}))
    )
    counts = curated.counts()
    assert (
        counts["in"]
        == len(rows)
        == counts["kept"]
        + counts["failed"]
        + sum(count for name, count in counts.items() if name.startswith("removed/"))
    )
    scores = evaluate(rows, curated)
    expected = {"spam", "harmful", "low_quality", "language", "leak", "duplicate", "encoding", "pii", "unlabelled"}
    assert set(scores) == expected
    assert scores["unlabelled"]["removed"] == 0
    for defect in expected - {"unlabelled"}:
        assert (defect, scores[defect]["precision"], scores[defect]["recall"]) == (defect, 1.0, 1.0)


def test_changed_thresholds_need_no_new_measures() -> None:
    rows = _rows()
    strict = Settings(resolve_thresholds({"too_few_words": 60}))
    loose = Settings(resolve_thresholds({}))
    measured = curate(rows, [], loose)
    metrics = [one.metrics for one in measured.measured]
    again = decide_all(rows, metrics, measured.contamination.documents, measured.pairs, strict)
    assert again == curate(rows, [], strict).decisions
    assert again != measured.decisions


def test_decide_names_all_failed_rules_and_the_first_decides() -> None:
    metrics = curate([_row("BUY NOW!!! HOW!!!")], [], Settings(resolve_thresholds({}))).measured[0].metrics
    verdict = decide([metrics], resolve_thresholds({}))[0]
    assert verdict.failed[0] == "too_few_words"
    assert verdict.value == 3
    assert list(verdict.failed) == [name for name in RULES if name in verdict.failed]


def test_unknown_threshold_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"thresholds\.spam_scor:(?s:.*)did you mean spam_score\?"):
        resolve_thresholds({"spam_scor": 1.0})


def test_every_metric_of_every_rule_is_measured() -> None:
    metrics = curate([_row(GOOD)], [], Settings(resolve_thresholds({}))).measured[0].metrics
    assert {rule.metric for rule in RULES.values()} <= metrics.keys()


class _Bar:
    def __init__(self) -> None:
        self.total = 0.0

    def advance(self, amount: float = 1, **shown: str | float) -> None:
        self.total += amount


def _run(folder: Path, rows: list[dict[str, Any]], **config: Any) -> StageRun:
    source, out = folder / "documents", folder / "out"
    for directory in (source, out):
        directory.mkdir(parents=True)
    write_documents(source, rows)
    write_jsonl(source / "tasks.jsonl", [TASK])
    bars: dict[str, _Bar] = {}

    @contextmanager
    def progress(name: str, total: float | None) -> Iterator[_Bar]:
        bars[name] = _Bar()
        yield bars[name]
        assert bars[name].total == total

    run = StageRun("corpus", 0, out, folder, Journal(folder / "journal.jsonl"), progress)
    inputs = {
        "documents": Artifact("atlas.documents", ArtifactType.DOCUMENTS, source, "x"),
        "tasks": Artifact("atlas.tasks", ArtifactType.TASKS, source, "y"),
    }
    run_curate(CurateConfig(documents="atlas.documents", tasks="atlas.tasks", **config), inputs, run)
    return run


def test_stage_writes_aligned_tables_and_the_same_bytes_again(tmp_path: Path) -> None:
    rows = _rows()
    run = _run(tmp_path / "one", rows)
    corpus = pq.read_table(run.directory / "documents.parquet").to_pylist()
    decisions = pq.read_table(run.directory / "decisions.parquet").to_pylist()
    metrics = pq.read_table(run.directory / "metrics.parquet").to_pylist()
    assert [row["id"] for row in rows] == [row["id"] for row in decisions] == [row["id"] for row in metrics]
    assert [d["output_id"] for d in decisions if d["kept"]] == [row["id"] for row in corpus]
    private = next(d for d in decisions if d["pii"])
    assert private["pii"][0]["replacement"] == "<EMAIL>"
    assert sum("<EMAIL>" in row["text"] for row in corpus) == 1
    assert next(d for d in decisions if d["rule"] == "contaminated")["contaminating_item"] == "t1"
    duplicate = next(d for d in decisions if d["rule"] == "duplicate")
    assert duplicate["duplicate_of"] == rows[0]["id"]
    assert duplicate["similarity"] >= 0.8
    summary = json.loads((run.directory / "curation.json").read_text())
    assert summary["contamination"]["found"] == {"t1": 1}
    assert summary["quality"]["after"]["safety"] == 1.0 > summary["quality"]["before"]["safety"]
    assert run.metrics["curation/documents_in"] == len(rows)
    assert run.metrics["curation/duplicate/recall"] == 1.0
    again = _run(tmp_path / "two", rows)
    for file in ("documents.parquet", "decisions.parquet", "metrics.parquet", "curation.json"):
        assert (run.directory / file).read_bytes() == (again.directory / file).read_bytes()


def test_pii_policies(tmp_path: Path) -> None:
    rows = [_row(f"The letter. Write to ana@mail.example.org. {GOOD}"), _row(OTHER)]
    kept = _run(tmp_path / "keep", rows, pii="keep")
    assert "ana@mail" in pq.read_table(kept.directory / "documents.parquet")["text"][0].as_py()
    dropped = _run(tmp_path / "drop", rows, pii="drop")
    assert dropped.metrics["curation/removed/pii"] == 1


def test_errors_name_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'fr'"):
        _run(tmp_path / "a", _rows(), languages=["en", "frr"])
    with pytest.raises(DataError, match="no documents"):
        _run(tmp_path / "b", [])
    with pytest.raises(DataError, match=r"too_few_words(?s:.*)thresholds\.too_few_words"):
        _run(tmp_path / "c", [_row("The end of it.")])


@pytest.mark.slow
def test_workers_decide_the_same() -> None:
    rows = [_row(f"{GOOD} Number {i} of the rows.") for i in range(600)] + _rows()
    one = curate(rows, [], Settings(resolve_thresholds({})))
    two = curate(rows, [], Settings(resolve_thresholds({}), workers=2))
    assert (one.decisions, one.texts) == (two.decisions, two.texts)
