"""The audit section: every chain as it was, text that stays text, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from report_fixture import lines, publish
from test_report import HOSTILE, assert_loads_nothing, parse, write_report

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.audit import KEPT_CHAINS, SHOWN_CHAINS
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.stages.configs import ReportConfig

OUTPUTS = {"completions": ArtifactType.COMPLETIONS, "conversations": ArtifactType.CONVERSATIONS}


def link(number: int, critique: str = "It harms.", **fields: Any) -> dict[str, Any]:
    made = {"revision": "I can't.", "accepted": True, "attempts": 3, "model": "helper", "model_fingerprint": "f"}
    return {
        "number": number,
        "principle": "harmless",
        "critic": "rules",
        "critique": critique,
        "seed": 1,
        **made,
        **fields,
    }


def chain(name: str, links: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"asked {name}"}]
    said = {"response": f"said {name}", "completion": "I can't.", "finish_reason": "stop", "model": "helper"}
    return {"id": name, "prompt": asked, **said, "chain": links, **fields}


def report(run: Path, rows: list[dict[str, Any]], **metrics: float) -> str:
    lines(run / "revised" / "completions" / "completions.jsonl", rows)
    lines(run / "revised" / "conversations" / "conversations.jsonl", [{"id": 1}])
    publish(run, "revised", "revise", metrics=metrics, outputs=OUTPUTS)
    given = Artifact("revised.completions", ArtifactType.COMPLETIONS, run / "revised" / "completions", "0")
    return write_report(run, ReportConfig(artifacts=["revised.completions"]), {"artifacts.0": given})[0]


def section(page: str) -> etree._Element:
    return next(part for part in parse(page).iter("section") if part.get("id") == "audit")


def test_a_chain_is_shown_from_prompt_to_last_revision(tmp_path: Path) -> None:
    links = [
        link(1, critique="", revision=None, accepted=False),
        link(2, "It harms.", revision="Sure, I will.", accepted=False, attempts=8),
        link(3, "It still harms.", revision="I can't.", attempts=1),
        link(4, "No reason.", revision=None, accepted=False),
    ]
    page = report(tmp_path / "run", [chain("a", links), chain("b", [link(1, critique="")])])
    [article] = section(page).iter("article")
    said = [" ".join(" ".join(item.itertext()).split()) for item in article.iter("li")]
    assert said == [
        "response helper said a",
        "harmless critique by rules It harms.",
        "refused revision helper, 8 attempts Sure, I will.",
        "harmless critique by rules It still harms.",
        "revision helper, 1 attempt I can't.",
        "harmless critique by rules No reason.",
        "no revision (there was no room for one)",
    ]
    assert "1 more principle was drawn and objected to nothing." in "".join(article.itertext())


def test_the_course_of_objections_is_drawn(tmp_path: Path) -> None:
    shares = {"objections_0/share": 0.5, "objections_1/share": 0.2, "objections_2/share": 0.05}
    table = section(report(tmp_path / "run", [chain("a", [link(1)])], **shares)).find(".//table")
    assert [row.find("th").text for row in table.iter("tr")] == [
        "as they were",
        "after 1 revision",
        "after 2 revisions",
    ]
    assert [row.findall("td")[1].text.replace("\u202f", " ") for row in table.iter("tr")] == ["50 %", "20 %", "5 %"]


def test_a_few_are_open_more_fold_and_the_file_has_the_rest(tmp_path: Path) -> None:
    found = section(report(tmp_path / "run", [chain(str(n), [link(1)]) for n in range(2 * KEPT_CHAINS)]))
    articles = list(found.iter("article"))
    assert len(articles) == KEPT_CHAINS
    assert [article.getparent().tag for article in articles].count("section") == SHOWN_CHAINS


def test_hostile_chains_stay_text(tmp_path: Path) -> None:
    evil = link(1, HOSTILE, principle=HOSTILE, critic=HOSTILE, revision=HOSTILE * 9, model=HOSTILE, attempts=HOSTILE)
    row = chain(HOSTILE, [evil], prompt=HOSTILE, response=HOSTILE, model=HOSTILE, finish_reason=HOSTILE)
    page = report(tmp_path / "run", [row, chain("b", [link(1)], prompt=[{"role": HOSTILE}, 3])])
    assert_loads_nothing(page)
    assert "<script" not in page
    assert page.count("{{ 7*7 }}") > 5


def test_without_objections_there_is_no_section(tmp_path: Path) -> None:
    assert 'id="audit"' not in report(tmp_path / "run", [chain("a", [link(1, critique="")])])


@pytest.mark.parametrize("text", ["{", '{"chain": 3}', "{}", '{"chain": [{}]}', "[]"])
def test_a_damaged_record_is_a_clear_error(tmp_path: Path, text: str) -> None:
    run = tmp_path / "run"
    report(run, [chain("a", [link(1)])])
    (run / "revised" / "completions" / "completions.jsonl").write_text(text + "\n", encoding="utf-8")
    (run / "report.partial").rename(run / "old")
    given = Artifact("revised.completions", ArtifactType.COMPLETIONS, run / "revised" / "completions", "0")
    with pytest.raises(ArtifactError, match=r"completions\.jsonl: cannot be read"):
        write_report(run, ReportConfig(artifacts=["revised.completions"]), {"artifacts.0": given})
