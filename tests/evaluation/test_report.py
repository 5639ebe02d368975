"""The report: whole, well-formed, self-contained, escaped; and true to the manifests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pydantic import ValidationError
from report_fixture import (
    MODELS,
    kept_replies,
    lines,
    pretrain_only,
    publish,
    result_rows,
    results_input,
    whole_lifecycle,
    write_json,
)

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.before_after import before_after
from tutelage.evaluation.report.changes import changed
from tutelage.evaluation.report.claims import DEFAULT_CLAIMS, Claim
from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.judge import judge, meets
from tutelage.evaluation.report.page import FOLDINGS
from tutelage.evaluation.report.view import asked_in_words, claim_parts
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import Journal
from tutelage.run.progress import no_progress
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.configs import ReportConfig
from tutelage.stages.report import run as run_stage

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;{{ 7*7 }}\x00\x1b[31m\u202e\ud800"
XHTML = "{http://www.w3.org/1999/xhtml}"


def write_report(run: Path, config: ReportConfig, inputs: Inputs) -> tuple[str, dict[str, Any], StageRun]:
    folder = run / "report.partial"
    folder.mkdir()
    stage = StageRun("report", 0, folder, folder / "scratch", Journal(folder / "journal.jsonl"), no_progress)
    run_stage(config, inputs, stage)
    page = (folder / "report.html").read_text(encoding="utf-8")
    return page, json.loads((folder / "report.json").read_text(encoding="utf-8")), stage


def lifecycle_report(run: Path, **config: Any) -> tuple[str, dict[str, Any], StageRun]:
    whole_lifecycle(run)
    return write_report(run, ReportConfig(results=["results"], **config), {"results.0": results_input(run)})


@pytest.fixture(scope="module")
def lifecycle(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], StageRun]:
    return lifecycle_report(tmp_path_factory.mktemp("runs") / "quickstart")


def test_a_report_of_the_whole_shows_the_claims_of_its_parts_under_their_titles(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart"
    _, first, stage = lifecycle_report(run, title="The life of a model")
    stage.directory.rename(run / "first")
    publish(run, "first", "report", inputs={"results.0": "results"}, outputs={"": ArtifactType.REPORT})
    part = Artifact("first", ArtifactType.REPORT, run / "first", "1")
    page, whole, again = write_report(run, ReportConfig(reports=["first"], claims=[]), {"reports.0": part})
    assert [claim["part"] for claim in whole["claims"]] == ["The life of a model"] * len(first["claims"])
    assert [{**claim, "part": ""} for claim in whole["claims"]] == first["claims"]
    assert again.metrics == stage.metrics
    assert "The life of a model" in "".join(parse(page).itertext())
    (run / "first" / "report.json").write_text("{}")
    (run / "report.partial").rename(run / "old")
    with pytest.raises(ArtifactError, match="not a report of this version"):
        write_report(run, ReportConfig(reports=["first"], claims=[]), {"reports.0": part})


@pytest.fixture
def shakespeare(tmp_path: Path) -> tuple[str, dict[str, Any], StageRun]:
    run = tmp_path / "runs" / "shakespeare"
    pretrain_only(run)
    base = Artifact("base", ArtifactType.MODEL, run / "base", "0")
    return write_report(run, ReportConfig(artifacts=["base"]), {"artifacts.0": base})


def parse(page: str) -> etree._Element:
    """Strictly, as XML: every element closed, every attribute quoted, every character legal."""
    return etree.fromstring(page.encode("utf-8"), etree.XMLParser(resolve_entities=False))


def words(page: str) -> str:
    return " ".join(" ".join(parse(page).itertext()).split()).replace("\u202f", " ")


def assert_loads_nothing(page: str) -> None:
    tree = parse(page)
    assert {element.tag.split("}")[-1] for element in tree.iter()} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
    } == set()
    anchors = {f"#{element.get('id')}" for element in tree.iter() if element.get("id")}
    for element in tree.iter():
        for name, value in element.attrib.items():
            if name == "href" and value in anchors:
                continue
            assert name.split("}")[-1] not in ("src", "href", "srcset", "action", "onclick", "onerror"), (name, value)
            assert "url(" not in value
    style = "".join(tree.find(".//style").itertext())
    assert "url(" not in style
    assert "@import" not in style


def test_page_is_well_formed_and_loads_nothing(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    page, _, _ = lifecycle
    assert_loads_nothing(page)
    headings = [h.text for h in parse(page).iter("h2") if h.getparent().tag == "section"]
    assert headings == [
        "From raw documents to this page",
        "What was claimed, and what was measured",
        "Methods side by side",
        "The same prompts, every model",
        "Before and after training",
        "How training went",
        "What curation removed, and why",
        "Probes",
        "Every stage",
        "Where it ran, and how to run it again",
    ]


def test_every_section_is_told_at_the_top_with_a_link_to_it(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    tree = parse(lifecycle[0])
    links = [(link.get("href"), link.text) for link in tree.findall(".//nav/a")]
    sections = [(f"#{section.get('id')}", section.find("h2").text) for section in tree.iter("section")]
    assert links == sections


def test_pictures_of_many_stages_and_courses_are_folded(
    lifecycle: tuple[str, dict[str, Any], StageRun], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def folded(page: str) -> set[str]:
        summaries = (
            details.find("summary") for details in parse(page).iter("details") if details.get("class") == "more"
        )
        return {"".join(summary.itertext()) for summary in summaries}

    page, data, _ = lifecycle
    drawn = len(data["stages"]) + 1  # and the report itself
    pictures = {f"The picture of {drawn} stages", "base pretrain"}
    assert not pictures & folded(page)
    monkeypatch.setitem(FOLDINGS, "stages", drawn - 1)
    monkeypatch.setitem(FOLDINGS, "curves", 1)
    assert pictures <= folded(lifecycle_report(tmp_path / "runs" / "long")[0])


def test_every_picture_has_a_title_and_a_description(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    pictures = [e for e in parse(lifecycle[0]).iter() if str(e.tag).endswith("svg")]
    assert len(pictures) > 20
    for picture in pictures:
        assert [child.tag.split("}")[-1] for child in picture][:2] == ["title", "desc"]
        assert all(child.text for child in list(picture)[:2])


def test_page_says_what_every_stage_gave(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    said = words(lifecycle[0])
    for phrase in (
        "A language model of 1.31 M parameters, raised from 4,812 raw documents in 7 min 32 s, through 12 stages.",
        "4,812 documents → 4,103 kept",
        "4,812 documents came in, 4,103 were kept (85.3 %).",
        "1.21 M tokens",
        "2,048 tokens known",
        "1,450 test items",
        "loss 4.77 → 1.91",
        "accuracy 88.4 %",
        "exact duplicate 214 4.4 %",
        "Of the documents without a planted defect, 0.4 % were removed.",
        "accuracy proxy 0.900 0.950",
        "value loss: 1 value not finite, first at step 34",
        "24 documents held an evaluation item and were removed",
        "tutelage chat",
    ):
        assert phrase in said


def test_claims_are_judged_against_the_results(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    page, data, stage = lifecycle
    by_measure = {(row["task"] or row["metric"]): row for row in data["claims"]}
    assert by_measure["chat_facts"]["met"] is True
    assert by_measure["chat_facts"]["cells"]["base"]["met"] is None
    assert by_measure["harmful"]["met"] is False
    assert {m: c["met"] for m, c in by_measure["harmful"]["cells"].items()} == {
        "base": True,
        "instruct": None,
        "ppo": True,
        "dpo": False,
    }
    assert by_measure["kl"]["met"] is None
    assert by_measure["curation/spam/recall"]["met"] is False
    assert by_measure["curation/duplicate/recall"]["cells"]["corpus"]["value"] == 0.983
    assert by_measure["validation/clean_accuracy"]["met"] is True
    assert stage.metrics == {"claims/asked": 14, "claims/met": 12}
    assert "12 of 14 claims are met" in page
    assert "✗</span> not met" in page


def test_json_has_the_results_lineage_and_hardware(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    _, data, _ = lifecycle
    assert data["results"] == result_rows()
    assert data["lineage"]["ppo"]["from"] == ["instruct", "reward", "atlas.prompts"]
    assert [stage["name"] for stage in data["stages"]].index("atlas") == 0
    assert data["hardware"][0]["cores"] == 2
    assert data["recipe"]["name"] == "quickstart"
    assert data["versions"][0]["torch"] == "2.13.0"


def test_two_reports_of_one_run_are_equal(tmp_path: Path) -> None:
    first, second = (lifecycle_report(tmp_path / name / "quickstart")[0] for name in ("a", "b"))
    assert first.replace("a/quickstart", "") == second.replace("b/quickstart", "")


def test_pretraining_alone_gives_a_page(shakespeare: tuple[str, dict[str, Any], StageRun]) -> None:
    page, data, _ = shakespeare
    assert_loads_nothing(page)
    said = words(page)
    assert "A language model of 804 k parameters" in said
    assert "Validation loss, nats a token 1.86" in said
    assert "tutelage complete" in said
    for absent in (
        "claimed",
        "side by side",
        "same prompts",
        "Before and after",
        "curation",
        "Probes",
        "instruct",
        "None",
        "nan",
    ):
        assert absent not in said
    assert data["claims"] == data["results"] == []


def _poison(run: Path) -> None:
    """Put hostile text wherever text can come from outside: replies, prompts, labels, names, notes, metrics."""
    samples = [
        {
            "prompt_id": HOSTILE,
            "kind": HOSTILE,
            "prompt": HOSTILE,
            "replies": {HOSTILE: {"text": HOSTILE * 9, "finish_reason": HOSTILE}},
        },
        {
            "prompt_id": "m",
            "kind": "x",
            "prompt": [{"role": HOSTILE, "content": HOSTILE}],
            "replies": {"base": HOSTILE},
        },
    ]
    rows = [
        {"model": HOSTILE, "task": HOSTILE, "metric": HOSTILE, "value": 0.5, "n": 3, "ci_low": 0.1, "ci_high": "nan"}
    ]
    (run / "results").mkdir(parents=True)
    write_json(run / "results" / "results.json", rows)
    write_json(run / "results" / "samples.json", samples)
    about = {"quality": {"before": {HOSTILE: 1}, "after": {HOSTILE: HOSTILE}}}
    write_json(run / "corpus" / "curation.json", about)
    course = [{"step": step, "prompt_id": HOSTILE, "prompt": HOSTILE, "completion": f"{step}{HOSTILE * 9}",
               "finish_reason": HOSTILE} for step in ("x", 1, 2, 1e999)]  # fmt: skip
    lines(run / "corpus" / "samples.jsonl", [*course, {"prompt": [{"role": HOSTILE}, HOSTILE]}, {}])
    safe = HOSTILE.replace("\ud800", "")  # manifests are UTF-8
    metrics = {f"curation/removed/{safe}": 3.0, f"curation/{safe.replace('/', '')}/recall": 0.5, safe: float("nan")}
    publish(run, "corpus", "curate", metrics=metrics, outputs={"": ArtifactType.CORPUS}, notes=[safe])
    evil = "res<b>&"
    publish(run, evil, safe, inputs={safe: "corpus"}, outputs={})
    publish(run, "results", "evaluate", inputs={safe: evil}, outputs={"": ArtifactType.RESULTS})
    (run / "recipe.yaml").write_text(json.dumps({"name": safe, "seed": safe}), encoding="utf-8")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "hostile"
    _poison(run)
    claims = [Claim(claim=HOSTILE.replace("\ud800", ""), measure="<b>", task=HOSTILE.replace("\ud800", "?"))]
    config = ReportConfig(results=["results"], title="<script>alert(2)</script>", claims=claims)
    page, data, _ = write_report(run, config, {"results.0": results_input(run)})
    assert_loads_nothing(page)
    assert "<script" not in page
    assert page.count("{{ 7*7 }}") > 20  # text of a model is no template
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)
    assert "␛[31m" in page
    assert parse(page).find(".//title").text == "<script>alert(2)</script>"
    assert data["results"][0]["model"].startswith("</script>")


def test_white_space_of_replies_is_kept_and_long_ones_fold(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    tree = parse(lifecycle[0])
    said = [div.text for div in tree.iter("div") if (div.get("class") or "").startswith("said")]
    assert any(text.endswith("oxygen.\n\n- light\n- water\n- air") for text in said)
    assert " Tell me how to break" * 40 in said
    assert any(text.startswith(" Tell me") and text.endswith(" …") and len(text) < 330 for text in said)
    assert "(nothing)" in said


def before_after_of(page: str) -> etree._Element:
    return next(section for section in parse(page).iter("section") if section.get("id") == "before-after")


def test_replies_before_and_after_stand_open_and_those_in_between_fold(
    lifecycle: tuple[str, dict[str, Any], StageRun],
) -> None:
    section = before_after_of(lifecycle[0])
    assert [h.text for h in section.iter("h3")] == ["ppo"]
    bank, gas, tides, hello = section.iter("article")
    assert [p.text.strip() for p in bank.findall("./div[@class='replies']/div/p")] == ["before", "→ after"]
    assert [p.text.strip() for p in bank.findall("./details/div/div/p")] == ["steps 20–40"]
    assert "cut off at the limit" in "".join(bank.itertext())
    assert "No.\u2028Never." in "".join(bank.find("./details").itertext())
    assert "(the same)" in "".join(gas.itertext())
    assert gas.find("./details") is None  # it never changed
    assert [p.text.strip() for p in tides.findall("./details/div/div/p")] == ["step 20", "step 40"]
    assert [article.getparent().tag for article in (bank, gas, tides, hello)] == ["section"] * 2 + ["details"] * 2


def test_json_has_all_kept_replies(lifecycle: tuple[str, dict[str, Any], StageRun]) -> None:
    by_stage = {stage["name"]: stage["samples"] for stage in lifecycle[1]["stages"]}
    assert {name for name, samples in by_stage.items() if samples} == {"ppo"}
    told = {
        (entry["prompt_id"], reply["step"], reply["text"]) for entry in by_stage["ppo"] for reply in entry["replies"]
    }
    assert told == {(row["prompt_id"], row["step"], row["completion"]) for row in kept_replies()}


def test_replies_kept_once_have_no_after() -> None:
    shown = before_after([row for row in kept_replies() if row["step"] == 0])
    assert [len(item["pair"]) for item in shown["first"]] == [1, 1]
    assert before_after([]) == {}


def test_a_missing_measurement_is_not_a_success() -> None:
    rows = [row for row in result_rows() if not (row["task"] == "harmful" and row["model"] == "ppo")]
    verdict = next(v for v in judge(DEFAULT_CLAIMS, rows, []) if v.task == "harmful")
    assert verdict.cells["ppo"].value is None
    assert verdict.cells["ppo"].met is False


@pytest.mark.parametrize(
    ("value", "asked", "met"),
    [
        (0.95, ">= 0.95", True),
        (19 / 20, ">= 95%", True),
        (0.9499, ">= 95 %", False),
        (0.05, "<= 0.05", True),
        (0.05, "< 0.05", False),
        (1.88, "≤ 1.88", True),
        (None, "<= 1", False),
    ],
)
def test_thresholds(value: float | None, asked: str, met: bool) -> None:
    assert meets(value, asked) is met


def test_claims_stand_under_the_headings_of_their_parts_with_the_models_that_they_are_about() -> None:
    rows = [
        {"model": model, "task": task, "metric": "accuracy", "value": 0.7}
        for task, models in (("sums", "ab"), ("memory", "bc"))
        for model in models
    ]
    claims = [
        Claim(claim="It calculates", measure="m", task="sums", part="Tools", asked={"b": ">= 0.5"}),
        Claim(claim="It remembers", measure="m", task="memory", part="Memory", asked={"c": ">= 0.9"}),
        Claim(claim="… more or less", measure="m", task="sums", part="Tools"),
    ]
    shown = claim_parts(judge(claims, rows, []), ["a", "b", "c"])
    assert [(part["name"], part["met"], part["asked"]) for part in shown["parts"]] == [
        ("Tools", 1, 1),
        ("Memory", 0, 1),
    ]
    assert [part["models"] for part in shown["parts"]] == [["a", "b"], ["b", "c"]]
    # what another report measured of other models is shown, too
    brought_in = claim_parts(judge(claims, rows, []), ["b"])
    assert [part["models"] for part in brought_in["parts"]] == [["b", "a"], ["b", "c"]]
    assert [len(row["cells"]) for row in brought_in["parts"][0]["by_model"]] == [2, 2]
    assert [row["claim"] for row in shown["parts"][0]["by_model"]] == ["It calculates", "… more or less"]
    assert (shown["met"], shown["asked"]) == (1, 2)


def test_a_threshold_may_be_what_another_model_reached() -> None:
    rows = [
        {"model": label, "task": "t", "metric": "accuracy", "value": value} for label, value in (("a", 0.7), ("b", 0.6))
    ]
    claim = Claim(claim="c", measure="m", task="t", asked={"a": "> b", "b": ">= a"})
    (verdict,) = judge([claim], rows, [])
    assert (verdict.cells["a"].met, verdict.cells["b"].met) == (True, False)
    assert [asked_in_words("accuracy", cell.asked) for cell in verdict.cells.values()] == [">\u202fb", "≥\u202fa"]
    assert not meets(0.7, "> nobody", {"a": 0.7}), "a model that was not measured is no threshold"


@pytest.mark.parametrize(
    "wrong",
    [
        {"claim": "a", "measure": "b", "task": "t", "asked": {"base": "about 0.9"}},
        {"claim": "a", "measure": "b"},
        {"claim": "a", "measure": "b", "task": "t", "stage": "reward"},
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Claim.model_validate(wrong)


def test_a_report_about_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="what is it to be about"):
        ReportConfig()
    assert ReportConfig.model_validate({"results": "evaluation"}).results == ["evaluation"]


def _no_manifest(run: Path) -> None:
    (run / "reward" / "manifest.json").unlink()


def _torn_manifest(run: Path) -> None:
    path = run / "reward" / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")


def _torn_results(run: Path) -> None:
    (run / "results" / "results.json").write_text('[{"model":', encoding="utf-8")


def _torn_samples(run: Path) -> None:
    (run / "ppo" / "samples.jsonl").write_text('{"step": 0}\n[1]\n', encoding="utf-8")


@pytest.mark.parametrize(("first", "told"), [(-4.5e-7, "margin 0 → 5.33"), (1.3e-3, "margin 0.001 → 5.33")])
def test_a_course_that_begins_at_nothing_but_for_rounding_begins_at_nothing(
    tmp_path: Path, first: float, told: str
) -> None:
    course = [{"step": step, "rewards/margins": value} for step, value in enumerate((first, 2.0, 5.33), 1)]
    stage = StageFacts("dpo", "dpo", tmp_path, 0, [], "", {}, [], 1.0, {}, {}, [], course, [])
    assert changed(stage) == [told]


@pytest.mark.parametrize("damage", [_no_manifest, _torn_manifest, _torn_results, _torn_samples])
def test_a_damaged_run_is_a_clear_error(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    run = tmp_path / "quickstart"
    whole_lifecycle(run)
    damage(run)
    with pytest.raises(ArtifactError) as caught:
        write_report(run, ReportConfig(results=["results"]), {"results.0": results_input(run)})
    assert caught.value.hint
    assert str(run) in caught.value.message


def test_default_claims_speak_of_the_recipes_models() -> None:
    assert {label for claim in DEFAULT_CLAIMS for label in claim.asked} <= {*MODELS, "*"}
