"""Rows as a stage trains on them, token by token: which are learnt, which only read. Rendered as training does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from tutelage.data.completions import completion_of, is_whole, spoken
from tutelage.data.shards import TokenShard
from tutelage.data.streams import ContinuousRows, PretrainRows
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError
from tutelage.run.artifacts import Artifact, ArtifactType
from tutelage.talk.masks import READ, TEMPLATE, TRAINED, kinds
from tutelage.web.surveyed import Surveyed

FILES = {
    ArtifactType.CONVERSATIONS: "conversations.jsonl",
    ArtifactType.COMPLETIONS: "completions.jsonl",
    ArtifactType.PREFERENCES: "preferences.jsonl",
    ArtifactType.TOKENS: "train.bin",
}
_KNOWS_TOKENS = (ArtifactType.TOKENIZER, ArtifactType.MODEL, ArtifactType.REWARD_MODEL)


@dataclass(frozen=True)
class Source:
    """Rows of one artifact as a stage reads them: `name` is the stage's field, or its own output."""

    name: str
    artifact: Artifact
    tokenizer: Path
    context: int
    seed: int


@dataclass(frozen=True)
class Token:
    """One token: its text with white space made visible, its id, and what it is: see `talk.masks`."""

    text: str
    id: int
    kind: str


@dataclass(frozen=True)
class Strip:
    """Tokens that belong together under a heading: a conversation, a document in a packed row, one side of a pair."""

    title: str
    tokens: Sequence[Token]

    @property
    def trained(self) -> int:
        """How many tokens are learnt."""
        return sum(token.kind == TRAINED for token in self.tokens)

    @property
    def runs(self) -> list[tuple[str, list[Token]]]:
        """Neighbours of one kind together."""
        return [(kind, list(group)) for kind, group in groupby(self.tokens, key=lambda token: token.kind)]


@dataclass(frozen=True)
class Row:
    """A row's strips, and why training leaves it out, or ""."""

    strips: Sequence[Strip]
    left_out: str


def sources_of(run: Surveyed, stage: str) -> list[Source]:
    """What a stage trains on, or the rows that it wrote; nothing where there are none yet, or no tokenizer."""
    edges = run.graph.edges[stage]
    taken = [(edge.field, _artifact(run, edge.producer, edge.output)) for edge in edges]
    given = [(name or stage, _artifact(run, stage, name)) for name in run.graph.outputs(stage)]
    own = next((one.path for _, one in taken if one is not None and one.type in _KNOWS_TOKENS), None)
    trains = any(type_ in _KNOWS_TOKENS[1:] for type_ in run.graph.outputs(stage).values())
    tokenizer = own or _any_tokenizer(run)
    chosen = [(name, one) for name, one in (taken if trains else given) if one is not None and one.type in FILES]
    if tokenizer is None:
        return []
    context, seed = _context(run, stage, own), run.graph.recipe.stage_seed(stage)
    return [
        Source(name, one, tokenizer, context, seed) for name, one in chosen if (one.path / FILES[one.type]).is_file()
    ]


def _artifact(run: Surveyed, stage: str, output: str) -> Artifact | None:
    made = run.states[stage].manifest
    return made.artifact(run.folder / stage, output) if made and output in made.artifacts else None


def _any_tokenizer(run: Surveyed) -> Path | None:
    found = (_artifact(run, name, output) for name in run.graph.order for output in run.graph.outputs(name))
    return next((one.path for one in found if one is not None and one.type in _KNOWS_TOKENS), None)


def _context(run: Surveyed, stage: str, model: Path | None) -> int:
    """Tokens of a row: the stage's setting, else what its model can take; 0 where neither is told."""
    told = getattr(run.graph.recipe.stages[stage], "context", None)
    if told is not None or model is None:
        return int(told or 0)
    try:
        return int(json.loads((model / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def count_rows(source: Source) -> int:
    """How many rows there are."""
    if source.artifact.type == ArtifactType.TOKENS:
        rows = _packed(source)
        return rows.rows_per_epoch if rows else len(TokenShard(source.artifact.path, "train"))
    return len(_line_starts(*_file(source)))


def read_row(source: Source, number: int) -> Row:
    """Row `number` from 0 on; DataError where a template refuses it, ArtifactError for a damaged file."""
    tokenizer = TextTokenizer.load(source.tokenizer)
    if source.artifact.type == ArtifactType.TOKENS:
        return _row(source, list(_tokens(source, tokenizer, number)))
    row = _line(source, number)
    try:
        return _row(source, _strips(source, tokenizer, row, number), _taken(source, row))
    except (KeyError, TypeError, AttributeError) as error:
        path, said = _file(source)[0], f"{type(error).__name__}: {error}"
        raise ArtifactError(
            f"{path}: row {number + 1} is not one of {source.artifact.type.value} ({said})",
            hint=f"make it anew: --from {source.artifact.name.partition('.')[0]}",
        ) from error


def _row(source: Source, strips: list[Strip], taken: bool = True) -> Row:
    """With why training leaves it out: sequences are never cut, and what teaches nothing is not laid."""
    longest = max((len(strip.tokens) for strip in strips), default=0)
    if not taken:
        return Row(strips, "Left out in training: the reply says nothing, or did not end.")
    if source.context and longest > source.context:
        return Row(strips, f"Left out in training: {longest} tokens are more than the context of {source.context}.")
    return Row(
        strips, "" if all(strip.trained for strip in strips) else "Left out in training: nothing in it is learnt."
    )


def _taken(source: Source, row: Mapping[str, Any]) -> bool:
    """Whether a stage learns from a row at all: whoever reads replies as conversations wants them whole."""
    drawn = source.artifact.type == ArtifactType.COMPLETIONS
    return is_whole(row) if drawn and _as_conversations(source) else True


def _as_conversations(source: Source) -> bool:
    return source.name.partition(".")[0] == "conversations"


def _strips(source: Source, tokenizer: TextTokenizer, row: Mapping[str, Any], number: int) -> list[Strip]:
    if source.artifact.type == ArtifactType.PREFERENCES:
        sides = [side for side in ("chosen", "rejected") if row.get(side) is not None]
        return [_reply(tokenizer, side, row["prompt"], row[side], row.get(f"{side}_finished", True)) for side in sides]
    title = str(row.get("id", number))
    drawn = source.artifact.type == ArtifactType.COMPLETIONS
    if drawn and not _as_conversations(source) and "turns" not in row:
        ended = row["finish_reason"] == "stop"
        return [_reply(tokenizer, f"reply {title}", row["prompt"], row["completion"], ended)]
    messages, tools = (spoken(row), None) if drawn else (row["messages"], row.get("tools"))
    rendered = render(tokenizer, messages, tools)
    return [Strip(f"conversation {title}", _texts(tokenizer, rendered.ids, kinds(rendered)))]


def _reply(tokenizer: TextTokenizer, title: str, prompt: Sequence[Mapping[str, Any]], reply: str, ended: bool) -> Strip:
    """A reply after its prompt, as pairs and `distill` learn it: the reply alone, its end only if it `ended`."""
    own = completion_of(tokenizer, prompt, reply, ended)
    whole = render(tokenizer, [*prompt, {"role": "assistant", "content": reply}])
    before = [READ if role else TEMPLATE for role in whole.roles]
    found = [TRAINED if mask else kind for mask, kind in zip(own.loss_mask, before, strict=False)]
    return Strip(title, _texts(tokenizer, own.ids, found))


def _packed(source: Source) -> PretrainRows | ContinuousRows | None:
    if not source.context:
        return None
    return _planned(source.artifact.path, source.artifact.fingerprint, source.context, source.seed)


@lru_cache(maxsize=4)
def _planned(path: Path, fingerprint: str, context: int, seed: int) -> PretrainRows | ContinuousRows:
    shard = TokenShard(path, "train")
    return PretrainRows(shard, context, seed) if shard.boundaries else ContinuousRows(shard, context, seed)


def _tokens(source: Source, tokenizer: TextTokenizer, number: int) -> Iterator[Strip]:
    """Documents of a packed row; of a stage without a context, one document. A first token is nobody's target."""
    from tutelage.data.batches import NO_TARGET, make_batch

    packed = _packed(source)
    if packed is None:
        ids = TokenShard(source.artifact.path, "train").document(number).tolist()
        yield Strip(f"document {number + 1}", _texts(tokenizer, ids, [READ] + [TRAINED] * (len(ids) - 1)))
        return
    batch = make_batch(packed.rows(number, 1))
    ids, segments = batch.input_ids_BT[0].tolist(), batch.segment_ids_BT[0].tolist()
    learnt = [False, *(target != NO_TARGET for target in batch.targets_BT[0].tolist()[:-1])]
    for segment, group in groupby(range(len(ids)), key=lambda at: segments[at]):
        places = list(group)
        if segment:  # 0 is padding
            found = [TRAINED if learnt[at] else READ for at in places]
            yield Strip(f"document {segment} of the row", _texts(tokenizer, [ids[at] for at in places], found))


def _texts(tokenizer: TextTokenizer, ids: Sequence[int], found: Sequence[str]) -> list[Token]:
    return [Token(_text(tokenizer, own), own, kind) for own, kind in zip(ids, found, strict=True)]


def _text(tokenizer: TextTokenizer, token_id: int) -> str:
    """What a token says; bytes that are no whole character are written as numbers."""
    text = tokenizer.decode([token_id], skip_special_tokens=False)
    if "\ufffd" in text and tokenizer.is_byte_level:
        text = "".join(f"\\x{byte:02x}" for byte in tokenizer.token_bytes[token_id])
    return text.replace("\n", "↵\n").replace("\t", "⇥\t") or tokenizer.token(token_id)


def _file(source: Source) -> tuple[Path, int]:
    path = source.artifact.path / FILES[source.artifact.type]
    return path, path.stat().st_mtime_ns


@lru_cache(maxsize=8)
def _line_starts(path: Path, changed: int) -> list[int]:
    starts, place = [], 0
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                starts.append(place)
            place += len(line)
    return starts


def _line(source: Source, number: int) -> dict[str, Any]:
    path, changed = _file(source)
    with path.open("rb") as file:
        file.seek(_line_starts(path, changed)[number])
        line = file.readline()
    try:
        row = json.loads(line)
        return {**row}
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: row {number + 1} is not a JSON object", hint="make the stage anew") from error
