"""`prefer` with people, and AI judges over the same items: real processes, a killed wait, a tiny model, a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from served import serving
from tiny import CITIES, CONTEXT, jsonl_artifact, model_artifact, question, reward_artifact, stage_run, tokenizer
from tutelage.cli import build_app
from tutelage.data.completions import completion_of
from tutelage.data.pairs import render_pairs
from tutelage.errors import DataError
from tutelage.labels.records import NewItem, Reply, Verdict
from tutelage.labels.service import Labels
from tutelage.model.hub import load_reward_model
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.stages import STAGES, prefer
from tutelage.stages.configs import PreferConfig
from tutelage.stages.constitutional.writers import ModelWriter, ServedWriter
from tutelage.stages.labelling import people
from tutelage.stages.labelling.ai_judge import judge_items, verdict_of
from tutelage.stages.labelling.items import items_of
from tutelage.stages.replying.settings import ServerSettings
from tutelage.stages.reward import score
from tutelage.store.engine import FILE, opened

STAGE = """
import sys
from pathlib import Path
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.run.journal import Journal
from tutelage.run.progress import no_progress
from tutelage.run.stage import StageRun
from tutelage.stages import prefer
from tutelage.stages.configs import PreferConfig
folder = Path(sys.argv[1])
out = folder / "labels.partial"
out.mkdir(exist_ok=True)
config = PreferConfig(completions="replies", by="people", people={"labels": 6, "overlap_share": 0.5})
inputs = {"completions": Artifact("replies", ArtifactType.COMPLETIONS, folder / "replies", "abc")}
say = lambda text: print(text, flush=True)
run = StageRun("labels", 3, out, out / "scratch", Journal(folder / "j"), no_progress, say=say)
prefer.run(config, inputs, run)
print(run.metrics["num_labels"])
"""


def completions(folder: Path, replies: int = 3) -> Artifact:
    rows = [
        {"id": f"{country}/{n}", "prompt_id": country, "prompt": question(country), "kind": "fact", "answer": city,
         "meta": {}, "completion": text, "finish_reason": "stop", "num_tokens": 3, "sampling": {}, "model": "instruct"}
        for country, city in CITIES.items()
        for n, text in enumerate([f"{city}.", f"It is {city}", "I cannot help", f"{city}. "][:replies])
    ]  # fmt: skip
    return jsonl_artifact(ArtifactType.COMPLETIONS, folder / "completions.jsonl", rows)


def settings(**people: Any) -> PreferConfig:
    return PreferConfig(completions="replies", by="people", people=people)


def test_the_stage_waits_is_killed_goes_on_and_ends_with_the_labels_of_another_process(tmp_path: Path) -> None:
    replies = completions(tmp_path / "replies")
    command = [sys.executable, "-c", STAGE, str(tmp_path)]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    said = waiting.stdout.readline()
    assert f"`tutelage label import {tmp_path} FILE`" in said
    assert f"`tutelage serve --ui {tmp_path}`, then http://127.0.0.1:8000/rank?task={tmp_path.name}%2Flabels%3A" in said

    def label(countries: list[str], annotator: str) -> None:
        rows = [
            {
                "prompt": question(country),
                "responses": [f"{CITIES[country]}.", f"It is {CITIES[country]}", "I cannot help"],
                "ranks": [1, 2, 2],
                "reason": "short",
                "annotator": annotator,
            }
            for country in countries
        ]
        write_jsonl(tmp_path / f"{annotator}.jsonl", rows)
        arguments = ["label", "import", str(tmp_path), str(tmp_path / f"{annotator}.jsonl")]
        code = "from tutelage.cli import main; import sys; sys.argv[0] = 'tutelage'; main()"
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert f"0 new items, {len(rows)} new labels" in done.stdout

    label(list(CITIES)[:3], "ada")
    os.kill(waiting.pid, signal.SIGKILL)
    waiting.communicate()
    assert not (tmp_path / "labels.partial" / "preferences.jsonl").exists()
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    label(list(CITIES)[3:], "bob")
    assert waiting.communicate(timeout=60)[0].splitlines()[-1] == "6"
    rows = list(read_jsonl(tmp_path / "labels.partial" / "preferences.jsonl"))
    assert Counter(row["annotator"] for row in rows) == {"ada": 6, "bob": 6}  # two of three pairs: one is a tie
    assert {row["chosen"] for row in rows} == {f"{city}." for city in CITIES.values()}
    assert {(round(row["weight"], 4), row["reason"]) for row in rows} == {(0.3333, "short")}
    assert all(set(row) >= {"id", "prompt_id", "prompt", "kind", "shown", "split"} for row in rows)
    found = render_pairs(tokenizer(), rows, CONTEXT)  # what reward, dpo and the others do with them
    assert len(found.train) + len(found.validation) == 12
    assert replies.path.exists()


def test_people_and_the_simulated_annotator_hold_out_the_same_prompts(tmp_path: Path) -> None:
    inputs = {"completions": completions(tmp_path / "replies")}
    run = stage_run(tmp_path / "simulated")
    prefer.run(PreferConfig(completions="", validation_share=0.5), inputs, run)
    held_out = {row["prompt_id"]: row["split"] for row in read_jsonl(run.directory / "preferences.jsonl")}
    rows = list(read_jsonl(inputs["completions"].path / "completions.jsonl"))
    split = people.split_of_prompts(rows, 0.5)
    with opened("sqlite://") as store:
        labels = Labels(store)
        labels.make_task("t")
        own = items_of(settings(), rows, inputs, run)
        labels.add_items("t", own)
        for item in own:
            labels.record("t", item, "ada", Verdict(ranking=[[0], [1], [2]]))
        assert {label.prompt_id: split(label) for label in labels.labels("t")} == held_out


def test_items_are_bounded_shared_and_of_the_kinds_asked(tmp_path: Path) -> None:
    inputs = {"completions": completions(tmp_path / "replies", 4)}
    rows = list(read_jsonl(inputs["completions"].path / "completions.jsonl"))
    run = stage_run(tmp_path / "out")
    found = items_of(settings(max_replies=2, overlap_share=1.0, overlap=3), rows, inputs, run)
    assert [len(item.replies) for item in found] == [2] * len(CITIES)
    assert {item.annotators_wanted for item in found} == {3}
    assert found == items_of(settings(max_replies=2, overlap_share=1.0, overlap=3), rows, inputs, run)
    assert {len(item.replies) for item in items_of(settings(), rows, inputs, run)} == {
        3
    }  # the same words twice are one
    other = settings().model_copy(update={"kinds": ["howto"]})
    with pytest.raises(DataError, match="nothing to prefer"):
        prefer.run(other, inputs, run)
    with pytest.raises(DataError, match=r"people\.labels: 99 labels are asked for, and 6 items ask for 6"):
        prefer.run(settings(labels=99, overlap_share=0), inputs, run)
    with pytest.raises(ValidationError, match="says nothing to the simulated annotator"):
        PreferConfig(completions="", people={"labels": 3})


def test_active_selection_asks_first_what_the_reward_model_tells_apart_least(tmp_path: Path) -> None:
    judge = reward_artifact(tmp_path / "reward")
    inputs = {"completions": completions(tmp_path / "replies"), "people.active": judge}
    rows = list(read_jsonl(inputs["completions"].path / "completions.jsonl"))
    run = stage_run(tmp_path / "out")
    found = items_of(settings(active="reward"), rows, inputs, run)
    model = load_reward_model(judge.path).eval()

    def gap(prompt: Any, pair: Any) -> float:
        texts = [completion_of(tokenizer(), prompt, reply.text) for reply in pair]
        first, second = score(model, texts, tokenizer().pad_id).tolist()
        return abs(first - second)

    for item in found:
        all_of_it = [Reply(row["completion"]) for row in rows if row["prompt_id"] == item.prompt_id]
        least = min(gap(item.prompt, (a, b)) for n, a in enumerate(all_of_it) for b in all_of_it[n + 1 :])
        assert gap(item.prompt, item.replies) == pytest.approx(least, abs=1e-5)
    with opened("sqlite://") as store:
        labels = Labels(store)
        labels.make_task("t")
        labels.add_items("t", found)
        order = [gap(item.prompt, item.replies) for item in labels.items("t")]
        assert order == sorted(order)
        sheet = labels.next_item("t", "ada")
        assert sheet is not None
        assert sheet.prompt == min(found, key=lambda item: gap(item.prompt, item.replies)).prompt
    plain = {"completions": inputs["completions"]}
    assert people.task_name("r", inputs, run) != people.task_name("r", plain, run)


def test_a_recipe_may_name_the_reward_model_of_a_first_round(tmp_path: Path) -> None:
    from tutelage.run.graph import build_graph
    from tutelage.run.recipe import read_recipe

    text = (
        "name: x\nstages:\n  a: {stage: atlas}\n  r: {stage: sample, prompts: a.prompts, engine: {model: m}}\n"
        "  p: {stage: prefer, completions: r, by: people, people: {labels: 9, active: a}}\n"
    )
    with pytest.raises(Exception, match=r"people\.active.*a gives several artifacts"):
        build_graph(read_recipe(text, "x", STAGES), STAGES)


def judged(labels: Labels, judge: Any, name: str, tmp_path: Path) -> tuple[int, int]:
    return judge_items(
        labels, "t", judge, name, "Which is better?", 2, lambda lot: stage_run(tmp_path / f"{name}{lot}")
    )


def test_a_judge_asks_in_both_orders_keeps_probabilities_and_takes_nobodys_place(tmp_path: Path) -> None:
    items = [
        NewItem(question(country), [Reply("a", "x"), Reply("b", "y"), Reply("c", "z")]) for country in list(CITIES)[:2]
    ]
    turned = [NewItem(item.prompt, item.replies[::-1]) for item in items]
    artifact = model_artifact(tmp_path / "model", max_position_embeddings=512)
    writer = ModelWriter.open(artifact, torch.float32, 8)
    found = []
    for own in (items, turned):
        with opened("sqlite://") as store:
            labels = Labels(store)
            labels.make_task("t")
            labels.add_items("t", own)
            assert judged(labels, writer, "tiny", tmp_path) == (2, 0)
            assert judged(labels, writer, "tiny", tmp_path) == (0, 0)
            (first, _) = labels.labels("t")
            assert len(first.verdict.soft) == 3
            found.append({(first.replies[i].text, first.replies[j].text): p for i, j, p in first.verdict.soft})
            assert labels.progress("t").judged == 2
            assert labels.progress("t").labels == 0
            assert labels.next_item("t", "ada") is not None
            assert {row.model for row in labels.board("t").standings} == {"x", "y", "z"}
    for (a, b), p in found[0].items():  # which reply is stored first does not count
        assert found[1][b, a] == pytest.approx(1 - p, abs=2e-4)


def test_a_served_judge_is_asked_over_http_and_silence_is_no_verdict(tmp_path: Path) -> None:
    said = iter(["A", "(B)", "I like both", "Neither"])

    def answer(number: int) -> tuple[int, dict[str, str], str]:
        choice = {"message": {"content": next(said)}, "finish_reason": "stop"}
        return 200, {}, json.dumps({"choices": [choice, choice]})

    with serving() as served, opened("sqlite://") as store:
        served.trouble = answer
        labels = Labels(store)
        labels.make_task("t")
        replies = [Reply("Lima."), Reply("Rome.")]
        labels.add_items("t", [NewItem(question(country), replies) for country in ("Peru", "Italy")])
        server = ServedWriter("tiny", "", ServerSettings(url=served.url, model="tiny", concurrency=1))
        assert judged(labels, server, "served", tmp_path) == (1, 1)
        (label,) = labels.labels("t")
        assert label.verdict.soft == [
            (0, 1, round(5 / 6, 4))
        ]  # four votes of four, in both orders, and one more of two
        assert label.ranks == [1, 2]


def test_expected_wins_decide_the_ranking_and_a_missing_answer_leaves_it_open() -> None:
    assert verdict_of([], 2) is None
    whole = verdict_of([(0, 1, 0.9), (0, 2, 0.4), (1, 2, 0.5)], 3)
    assert whole is not None
    assert whole.ranking == [[0], [2], [1]]  # 1.3, 1.1 and 0.6 expected wins
    part = verdict_of([(0, 1, 0.9)], 3)
    assert part is not None
    assert part.ranking == []


def test_the_judge_command_and_the_export_of_its_labels(tmp_path: Path) -> None:
    model_artifact(tmp_path / "judge-model", max_position_embeddings=512)
    completions(tmp_path / "replies")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(build_app(), ["label", *arguments])
        return result.exit_code, result.output

    assert run("import", str(tmp_path), "replies")[0] == 0
    code, shown = run("judge", str(tmp_path), "--model", "judge-model", "--limit", "4")
    assert (code, "4 items judged by judge:judge-model" in shown) == (0, True)
    assert run("export", str(tmp_path), "--to", str(tmp_path / "p.jsonl"), "--by", "models")[0] == 0
    rows = list(read_jsonl(tmp_path / "p.jsonl"))
    assert {row["annotator"] for row in rows} == {"judge:judge-model"}
    assert all(0.5 < row["probability"] <= 1 for row in rows)
    assert "neither a stage of" in run("judge", str(tmp_path), "--model", "nobody")[1]
    assert (tmp_path / FILE).exists()
    assert json.loads(run("stats", str(tmp_path), "--json")[1])["progress"]["judged"] == 4
