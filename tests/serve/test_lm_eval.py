"""lm-eval over HTTP: what it measures of a served model is what it measures of the same model here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from serve.live import CONTEXT, Running
from tiny import CITIES, TEXTS
from tutelage.data.completions import Completion
from tutelage.evaluation.harness import Subject
from tutelage.generation.engine import Request
from tutelage.generation.sampling import Sampling
from tutelage.serve.models import Served

pytestmark = pytest.mark.filterwarnings("ignore")  # those of lm-eval's own dependencies
MOST = 12  # tokens of a reply
TASKS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice", "doc_to_text": "The capital of {{country}} is", "doc_to_target": "{{city}}",
        "doc_to_choice": ["Paris", "Lima, é", "Cairo is it."], "metric_list": [{"metric": "acc_norm"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
    },
    "written": {
        "output_type": "generate_until", "doc_to_text": "The capital of {{country}}", "doc_to_target": "{{city}}",
        "generation_kwargs": {"until": ["a", " it"], "max_gen_toks": MOST, "do_sample": False, "temperature": 0.0},
        "metric_list": [{"metric": "exact_match"}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """lm-eval with nothing of the hub: three tasks over a file."""
    folder = tmp_path_factory.mktemp("lm_eval")
    rows = [
        {"country": country, "city": ["Paris", "Lima, é", "Cairo is it."][number % 3], "text": text}
        for number, (country, text) in enumerate(zip(CITIES, TEXTS, strict=True))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
    }
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **source, **task}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(folder / "home"))
        from lm_eval import evaluator, tasks

        manager = tasks.TaskManager(include_path=str(folder), include_defaults=False)

        def measured(model: Any) -> dict[str, Any]:
            return evaluator.simple_evaluate(
                model=model, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, verbosity="ERROR"
            )

        yield measured


def here(served: Served) -> Any:
    """The served model as one that lm-eval has in its own process."""
    from lm_eval.api.model import LM

    own, tokenizer = Subject("here", served.speaker.model, served.tokenizer), served.tokenizer

    class Here(LM):
        def loglikelihood(self, requests: list[Any], **settings: Any) -> list[tuple[float, bool]]:
            pairs = [(tokenizer.encode(text), tokenizer.encode(text + more)) for text, more in _rows(requests)]
            completions = [Completion(whole, len(prompt)) for prompt, whole in pairs]
            return list(zip(own.logprobs(completions), map(self._is_greedy, completions), strict=True))

        def loglikelihood_rolling(self, requests: list[Any], **settings: Any) -> list[float]:
            texts = [[tokenizer.bos_id, *tokenizer.encode(text)] for (text,) in _rows(requests)]
            return own.logprobs([Completion(ids, 1) for ids in texts])

        def generate_until(self, requests: list[Any], **settings: Any) -> list[str]:
            asked = [
                Request(tokenizer.encode(text), Sampling(MOST, 0.0), stop_strings=options["until"])
                for text, options in _rows(requests)
            ]
            return [reply.text or "" for reply in served.speaker.engine.generate(asked)]

        def _is_greedy(self, completion: Completion) -> bool:
            with torch.no_grad():
                likeliest = own.model(torch.tensor([completion.ids]))[0].argmax(-1).tolist()
            return bool(likeliest[completion.num_prompt - 1 : -1] == completion.ids[completion.num_prompt :])

    return Here()


def _rows(requests: list[Any]) -> list[Any]:
    return [request.args for request in requests]


def _numbers(found: dict[str, Any], task: str) -> list[Any]:
    """Every score of a task, flat, in the order of its rows."""
    responses = [sample["filtered_resps"] for sample in sorted(found["samples"][task], key=lambda one: one["doc_id"])]
    return [value for one in responses for part in one for value in (part if isinstance(part, tuple) else (part,))]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("batch", [1, 4])
def test_scores_over_http_are_those_in_process(server: Running, harness: Any, batch: int, concurrency: int) -> None:
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    remote = LocalCompletionsAPI(
        base_url=f"{server.url}/completions",
        model="base",
        tokenizer_backend="remote",
        batch_size=batch,
        num_concurrent=concurrency,
        max_length=CONTEXT,
        max_retries=1,
    )
    over_http, in_process = harness(remote), harness(here(server.models.get("base")))
    for task in ("choice", "rolling"):
        assert _numbers(over_http, task) == pytest.approx(_numbers(in_process, task), abs=1e-4)
    assert _numbers(over_http, "written") == _numbers(in_process, "written")
    for task, scores in in_process["results"].items():
        for name, score in scores.items():
            if isinstance(score, float):
                assert over_http["results"][task][name] == pytest.approx(score, abs=1e-4, rel=1e-4)
