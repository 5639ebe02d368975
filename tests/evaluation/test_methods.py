"""Methods side by side: what is compared, how seeds are joined, what is counted as cost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from report_fixture import MODELS, publish, result_rows, sample_rows, whole_lifecycle, write_json

from tutelage.evaluation.report.facts import RunFacts, StageFacts, gather
from tutelage.evaluation.report.judge import Cell, Verdict
from tutelage.evaluation.report.method_tables import as_data, tables
from tutelage.evaluation.report.methods import compare, labelled, other_seeds, repeats
from tutelage.evaluation.report.page import Report, as_json, render
from tutelage.run.artifacts import ArtifactType

AGAIN = {"ppo-1": ("ppo", 0.80), "ppo-2": ("ppo", 0.92), "dpo-1": ("dpo", 0.75)}  # label → first seed, win rate


def other_seed(run: Path, name: str, first: str, seed: int) -> None:
    """The stage `first` once more with another seed."""
    made = json.loads((run / first / "manifest.json").read_text())
    shutil.copytree(run / first, run / name)
    given = {field: given["artifact"] for field, given in made["inputs"].items()}
    publish(run, name, made["stage"], inputs=given, outputs={"": ArtifactType.MODEL}, metrics=made["metrics"],
            seconds=2 * made["seconds"], config=made["config"], seed=seed)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The whole lifecycle with three seeds of PPO and two of DPO."""
    run = tmp_path_factory.mktemp("runs") / "methods"
    whole_lifecycle(run)
    for seed, (name, (first, _)) in enumerate(AGAIN.items()):
        other_seed(run, name, first, seed)
    rows = [*result_rows(), *(again(row, name) for name in AGAIN for row in result_rows())]
    rows = [row for row in rows if row]
    write_json(run / "results" / "results.json", rows)
    models = {f"models.{label}": label for label in (*MODELS, *AGAIN)}
    publish(run, "results", "evaluate", inputs={"tasks": "atlas.tasks", **models}, outputs={"": ArtifactType.RESULTS})
    samples = [{**row, "replies": {**row["replies"], **dict.fromkeys(AGAIN, "Quite so.")}} for row in sample_rows()]
    return Report("Methods", gather(run, ["results"]), rows, samples, [], "report", [])


def again(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    first, win_rate = AGAIN[name]
    if row["model"] != first:
        return {}
    return {**row, "model": name, "value": win_rate if row["metric"] == "win_rate" else row["value"]}


def by_name(run: RunFacts) -> dict[str, StageFacts]:
    return {stage.name: stage for stage in run.stages}


def test_what_differs_in_the_seed_alone_is_one_method(report: Report) -> None:
    (comparison,) = compare(report.run.stages, report.results)
    assert comparison.start == "instruct"
    ppo, dpo = comparison.methods
    assert (ppo.labels, dpo.labels) == (["ppo", "ppo-1", "ppo-2"], ["dpo", "dpo-1"])
    assert ppo.seeds == [7, 0, 1]
    won = ppo.reached["preference", "win_rate"]
    assert won.values == [0.86, 0.80, 0.92]
    assert won.mean == pytest.approx(0.86)
    assert won.deviation == pytest.approx(0.06)
    assert comparison.before["preference", "win_rate"].values == [0.5]
    assert repeats(report.run.stages, report.results) == set(AGAIN)
    assert other_seeds(report.run.stages, report.results) == set(AGAIN)


def test_another_setting_or_another_input_is_another_method(report: Report) -> None:
    stages = by_name(report.run)
    for change in ({"config": {**stages["ppo-1"].config, "kl_coef": 0.3}}, {"inputs": stages["ppo-1"].inputs[:2]}):
        changed = [replace(stage, **change) if stage.name == "ppo-1" else stage for stage in report.run.stages]
        (comparison,) = compare(changed, report.results)
        assert [method.name for method in comparison.methods] == ["ppo", "dpo", "ppo-1"]


def test_costs_are_those_that_not_all_methods_have(report: Report) -> None:
    (comparison,) = compare(report.run.stages, report.results)
    ppo, dpo = (method.cost for method in comparison.methods)
    assert (ppo.needs, dpo.needs) == ({"reward": 22.7}, {})
    assert ppo.settings == ["kl_coef", "gae_lambda"]
    assert dpo.settings == ["beta"]
    assert ppo.seconds == pytest.approx(84.9 * 5 / 3)
    assert (ppo.models, ppo.parameters, ppo.generated_tokens) == (3, 3_936_000, 214_000)
    assert (ppo.peak_memory, dpo.peak_memory) == (1_200_000_000, 800_000_000)


def test_one_model_under_two_labels_counts_once(report: Report) -> None:
    stages = []
    for stage in report.run.stages:
        again = [replace(given, field="models.hot") for given in stage.inputs if given.field == "models.dpo"]
        stages.append(replace(stage, inputs=[*stage.inputs, *again]))
    assert "hot" in labelled(stages)
    (comparison,) = compare(stages, report.results)
    assert "hot" not in [label for method in comparison.methods for label in method.labels]


def test_another_seed_that_fails_what_is_asked_is_shown(report: Report) -> None:
    failed = Cell(0.1, 100, 0.05, 0.2, ">= 0.9", met=False)
    verdict = Verdict("It refuses", "share", "harmful", None, "refusal_rate", {"dpo-1": failed})
    page = render(replace(report, verdicts=[*report.verdicts, verdict]))
    tree = etree.fromstring(page.encode())
    claims = next(section for section in tree.iter("section") if section.get("id") == "claims")
    assert "dpo-1" in "".join(claims.itertext())


def test_what_a_manifest_does_not_tell_is_not_made_up(report: Report) -> None:
    bare = [replace(stage, metrics={}, peak_memory=None, attempts=2) for stage in report.run.stages]
    rows = [row for row in report.results if (row["model"], row["metric"]) != ("ppo-2", "win_rate")]
    (comparison,) = compare(bare, rows)
    assert ("preference", "win_rate") not in comparison.methods[0].reached
    took = tables(comparison)["took"][0]["cells"]
    assert [cell["value"] for cell in took[1:4]] == ["–", "–", "–"]
    assert took[0]["value"].startswith("≥ ")
    json.dumps(as_data(comparison), allow_nan=False)


def test_one_model_alone_is_compared_with_nothing(report: Report) -> None:
    stages = [
        replace(stage, inputs=[given for given in stage.inputs if given.field in ("models.base", "models.instruct")])
        if stage.stage == "evaluate"
        else stage
        for stage in report.run.stages
    ]
    assert compare(stages, report.results) == []


def test_models_of_which_nothing_was_measured_here_are_not_compared(report: Report) -> None:
    own = [row for row in report.results if row["model"] in ("base", "instruct", "ppo")]
    assert compare(report.run.stages, own) == []
    assert not other_seeds(report.run.stages, own)
    assert not repeats(report.run.stages, own)


def test_other_seeds_stand_in_the_table_and_under_every_stage_only(report: Report) -> None:
    tree = etree.fromstring(render(report).encode())
    sections = {str(s.get("id")): " ".join("".join(s.itertext()).split()) for s in tree.iter("section")}
    assert {name for name, said in sections.items() if "ppo-1" in said} == {"methods", "stages"}
    assert "Quite so." not in sections["samples"]
    table = sections["methods"].replace("\u202f", " ")
    for phrase in ("ppo3 seeds", "86 %80–92 %", "dpo2 seeds", "+ 23 s reward", "1.2 GB", "3.94 M parameters"):
        assert phrase in table
    data = as_json(report)
    assert {row["model"] for row in data["results"]} == {*MODELS, *AGAIN}
    assert data["methods"][0]["methods"][0]["reached"]["preference/win_rate"]["values"] == [0.86, 0.80, 0.92]
