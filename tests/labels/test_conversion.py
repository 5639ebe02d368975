"""Labels as pairs and rankings, files as labels: what is kept, what makes no pair, what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from people import TASK, Clock, by_order, item, new_id, service
from typer.testing import CliRunner

from tutelage.cli import build_app
from tutelage.labels.convert import by_prompt, preference_rows, ranking_rows
from tutelage.labels.intake import taken
from tutelage.labels.records import Label, NewItem, Reply, Verdict
from tutelage.labels.service import Labels
from tutelage.labels.summary import board_of
from tutelage.sources.preferences import preferences_of
from tutelage.sources.rows import RowRefused
from tutelage.sources.store import read_jsonl, write_jsonl
from tutelage.store.engine import FILE, opened


def label(verdict: Verdict, **changes: Any) -> Label:
    own = item(0)
    given = {
        "id": 1, "task": TASK, "item": 1, "key": own.key, "prompt_id": "p0", "prompt": list(own.prompt), "kind": "fact",
        "replies": own.replies, "annotator": "ada", "annotator_kind": "person", "repeat": 0, "shown": (2, 0, 1),
        "verdict": verdict, "guideline_version": 1, "created": 5.0, **changes,
    }  # fmt: skip
    return Label(**{**given, "replies": tuple(given["replies"])})


def rows(verdict: Verdict, **changes: Any) -> list[dict[str, Any]]:
    return list(preference_rows([label(verdict, **changes)], by_prompt(0.5)))


def pairs(verdict: Verdict, **changes: Any) -> list[tuple[int, int, float]]:
    return [
        (int(row["chosen"].split()[1]), int(row["rejected"].split()[1]), row["weight"])
        for row in rows(verdict, **changes)
        if "chosen" in row
    ]


def test_a_ranking_is_all_its_pairs_less_ties() -> None:
    third = pytest.approx(1 / 3)
    assert pairs(Verdict(ranking=[[2], [0], [1]])) == [(2, 0, third), (2, 1, third), (0, 1, third)]
    assert pairs(Verdict(ranking=[[1], [0, 2]])) == [(1, 0, third), (1, 2, third)]
    assert pairs(Verdict(ranking=[[0, 1, 2]])) == []
    assert rows(Verdict(ranking=[[2], [0], [1]]), repeat=1) == []  # a second look would count the item twice


def test_annotator_order_reason_and_origin_are_kept() -> None:
    (row, *_) = rows(Verdict(ranking=[[0], [1], [2]], reason="kinder"))
    assert (row["annotator"], row["reason"], row["prompt_id"], row["kind"]) == ("ada", "kinder", "p0", "fact")
    assert (row["chosen"], row["rejected"]) == ("reply 0 to 0", "reply 1 to 0")
    assert rows(Verdict(ranking=[[0], [1], [2]]))[1]["shown"] == ["reply 2 to 0", "reply 0 to 0"]
    assert rows(Verdict(ranking=[[0], [1], [2]]), shown=())[0]["shown"] == []


def test_unsafe_is_never_chosen_and_where_all_are_bad_none_is() -> None:
    assert [pair[:2] for pair in pairs(Verdict(ranking=[[0], [1], [2]], flags={0: ["unsafe"]}))] == [(1, 2)]
    bad = rows(Verdict(ranking=[[0], [1], [2]], all_bad=True))
    assert [(row["completion"], row["label"]) for row in bad] == [(f"reply {n} to 0", False) for n in range(3)]
    flagged = rows(Verdict(flags={0: ["good"], 1: ["inaccurate"]}))
    assert [(row["completion"], row["label"]) for row in flagged] == [("reply 0 to 0", True), ("reply 1 to 0", False)]


def test_soft_labels_keep_their_probability() -> None:
    found = rows(Verdict(soft=[(0, 1, 0.2), (0, 2, 0.5), (1, 2, 0.9)]))
    assert [(row["chosen"][6], row["rejected"][6], row["probability"]) for row in found] == [
        ("1", "0", 0.8),
        ("1", "2", 0.9),
    ]


def test_a_prompt_is_never_on_both_sides() -> None:
    labels = [
        label(Verdict(ranking=[[0], [1], [2]]), prompt=[{"role": "user", "content": f"Q{n % 40}?"}], annotator=f"a{n}")
        for n in range(120)
    ]
    sides: dict[str, set[str]] = {}
    for row in preference_rows(labels, by_prompt(0.3)):
        sides.setdefault(json.dumps(row["prompt"]), set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert {"train"} in sides.values()
    assert {"validation"} in sides.values()


def test_rankings_are_read_again_as_they_were_and_by_the_preferences_stage(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'a'}") as first, opened(f"sqlite:///{tmp_path / 'b'}") as second:
        labels = service(first, Clock(), num_items=10, repeat_share=0.2)
        for n in range(8):
            sheet = labels.next_item(TASK, "ada")
            assert sheet is not None
            verdict = by_order(sheet, [[[1], [0, 2]], [[2], [1], [0]]][n % 2], reason="r", seconds=2.5)
            labels.submit(sheet.presentation, "ada", verdict, new_id())
        written = json.loads(json.dumps(list(ranking_rows(labels.labels(TASK)))))
        assert len(preferences_of(written[0])) == len(pairs(labels.labels(TASK)[0].verdict))
        again = Labels(second, Clock())
        again.make_task(TASK)
        for row in written:
            found = taken(row, "nobody")
            assert found.verdict is not None
            again.add_items(TASK, [found.item])
            again.record(TASK, found.item, found.annotator, found.verdict, shown=found.shown, repeat=found.repeat)
        drop = {"created", "guideline_version"}
        assert [{k: v for k, v in row.items() if k not in drop} for row in ranking_rows(again.labels(TASK))] == [
            {k: v for k, v in row.items() if k not in drop} for row in written
        ]


GOOD = [
    ({"response_a": "x", "response_b": "y", "preferred": "B"}, [[1], [0]]),
    ({"response_a": "x", "response_b": "y", "preferred": "tie"}, [[0, 1]]),
    ({"response_a": "x", "response_b": "y", "preferred": ""}, None),
    ({"chosen": "x", "rejected": "y"}, [[0], [1]]),
    ({"responses": ["x", "y", "z"], "ranks": [2, 1, 2]}, [[1], [0, 2]]),
    ({"responses": '["x", "y"]', "ranks": "[2, 1]", "reason": "", "all_bad": ""}, [[1], [0]]),  # cells of a table
    ({"responses": ["x", "y"]}, None),
]


@pytest.mark.parametrize(("row", "ranking"), GOOD)
def test_rows_of_every_form_are_read(row: dict[str, Any], ranking: list[list[int]] | None) -> None:
    found = taken({"prompt": "Q?", **row}, "file")
    assert (found.verdict.ranking if found.verdict else None) == ranking
    assert [reply.text for reply in found.item.replies][:2] == ["x", "y"]


BAD = [
    ({"response_a": "x", "response_b": "y", "preferred": "left"}, "names neither"),
    ({"response_a": "x", "response_b": "x"}, "same reply twice"),
    ({"responses": ["x", "y"], "ranks": [1]}, "`ranks` does not fit"),
    ({"responses": ["x", "y"], "ranks": [1, "2"]}, "`ranks` does not fit"),
    ({"responses": ["x"]}, "an item has 1 replies"),
    ({"responses": [str(n) for n in range(9)]}, "an item has 9 replies"),
    ({"responses": ["x", "y"], "flags": {"0": ["ugly"]}}, "`flags` cannot be read"),
    ({"responses": ["x", "y"], "flags": {"4": ["bad"]}}, "reply 4 is not on the sheet"),
    ({"responses": ["x", "y"], "ranks": [1, 2], "shown": [0, 0]}, "`shown` is not an order"),
    ({"responses": ["x", "y"], "ranks": [1, 2], "seconds": -1}, "`seconds` cannot be read"),
    ({"answers": ["x", "y"]}, "fits no accepted format"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_rows_that_cannot_be_used_say_why(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowRefused, match=message) as refused:
        taken({"prompt": "Q?", **row}, "file")
    assert refused.value.mend


def test_the_board_counts_ties_as_half_and_says_what_is_not_connected() -> None:
    found = board_of([label(Verdict(ranking=[[0, 1], [2]])), label(Verdict(ranking=[[0], [1], [2]]), item=2)], 0)
    assert [(row.model, row.wins, row.games) for row in found.standings] == [
        ("base", 3.5, 4.0), ("instruct", 2.5, 4.0), ("aligned", 0.0, 4.0)
    ]  # fmt: skip
    other = [Reply("x", "far"), Reply("y", "away")]
    apart = board_of(
        [label(Verdict(ranking=[[0], [1], [2]])), label(Verdict(ranking=[[0], [1]]), replies=other, item=2)], 0
    )
    assert apart.groups == [["aligned", "base", "instruct"], ["away", "far"]] or len(apart.groups) == 2


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build_app(), ["label", *arguments])
    return result.exit_code, result.output


def test_import_stats_and_export_from_the_command_line(tmp_path: Path) -> None:
    folder, replies, judged = tmp_path / "run", tmp_path / "completions.jsonl", tmp_path / "labels.jsonl"
    folder.mkdir()
    prompt = [{"role": "user", "content": "Q?"}]
    write_jsonl(replies, [
        {"id": f"p/{n}", "prompt_id": "p", "prompt": prompt, "kind": "fact", "completion": text, "model": text,
         "finish_reason": "length"} for n, text in enumerate(["x", "y", "x "])
    ])  # fmt: skip
    write_jsonl(
        judged, [{"prompt": "Q?", "responses": ["y", "x"], "ranks": [1, 2], "annotator": f"a{n}"} for n in range(3)]
    )
    assert run("stats", str(folder))[0] == 2
    assert "1 new items, 0 new labels" in run("import", str(folder), str(replies))[1]
    assert "0 new items, 3 new labels" in run("import", str(folder), str(judged))[1]
    assert "0 new items, 0 new labels" in run("import", str(folder), str(judged))[1]
    code, shown = run("stats", str(folder), "--json")
    assert code == 0
    stats = json.loads(shown)
    assert (stats["progress"]["labels"], stats["progress"]["annotators"], stats["alpha_rankings"]) == (3, 3, 1.0)
    assert [row["model"] for row in stats["board"]["standings"]] == ["y", "x"]
    assert "Krippendorff" in run("stats", str(folder))[1]
    assert run("export", str(folder), "--to", str(tmp_path / "p.jsonl"))[0] == 0
    found = list(read_jsonl(tmp_path / "p.jsonl"))
    assert [(row["chosen"], row["chosen_finished"], row["annotator"]) for row in found] == [
        ("y", False, f"a{n}") for n in range(3)
    ]
    assert (folder / FILE).exists()


def test_errors_of_commands_name_file_line_value_and_what_to_do(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("prompt,response_a,response_b,preferred\nQ?,x,y,a\nR?,x,y,left\n", encoding="utf-8")
    code, shown = run("import", str(tmp_path), str(table))
    assert code == 2
    assert "t.csv:3" in shown
    assert "'left'" in shown
    assert "→" in shown
    assert "0 items" not in run("import", str(tmp_path), str(table), "--on-problem", "skip")[1]
    code, shown = run("import", str(tmp_path), "replys")
    assert (code, "neither a file nor a finished stage" in shown) == (2, True)
    code, shown = run("export", str(tmp_path), "--to", str(tmp_path / "x"), "--task", "lables")
    assert (code, "did you mean labels?" in shown) == (2, True)


def test_items_are_known_whatever_the_order_of_their_replies() -> None:
    turned = NewItem(item(0).prompt, item(0).replies[::-1])
    assert turned.key == item(0).key
    assert item(1).key != item(0).key
