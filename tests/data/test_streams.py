from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tutelage.data.batches import make_batch
from tutelage.data.packing import PackedRows
from tutelage.data.shards import ShardWriter, TokenShard, verify_shards
from tutelage.data.streams import ContinuousRows, PretrainRows, RowSource, SequentialRows
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import ArtifactError, DataError

CONTEXT = 32


def write(folder: Path, tokenizer: TextTokenizer, boundaries: bool = True) -> list[list[int]]:
    """2,300 documents of 0 to 80 tokens, each of numbers that name it; every tenth for validation."""
    random = np.random.default_rng(0)
    documents = [random.integers(8, 320, random.integers(0, 80)).tolist() for _ in range(2_300)]
    with ShardWriter(folder, tokenizer, boundaries=boundaries) as writer:
        for index, ids in enumerate(documents):
            split = "validation" if index % 10 == 0 else "train"
            writer.add(split, ids, document=f"d{index}", source="test", num_bytes=3 * len(ids))
    return documents


@pytest.fixture(scope="module")
def folder(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write(folder, tokenizer)
    return folder


def same(left: PackedRows, right: PackedRows) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in vars(left))


def test_shards_round_trip(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    documents = write(tmp_path, tokenizer)
    verify_shards(tmp_path)
    train, validation = TokenShard(tmp_path, "train"), TokenShard(tmp_path, "validation")
    assert (len(train), len(validation)) == (2_070, 230)
    assert train.document(1).tolist() == [tokenizer.bos_id, *documents[2], tokenizer.eos_id]
    assert validation.document(229).tolist() == [tokenizer.bos_id, *documents[2_290], tokenizer.eos_id]
    assert train.num_tokens + validation.num_tokens == sum(len(ids) + 2 for ids in documents)
    assert train.num_bytes + validation.num_bytes == sum(3 * len(ids) for ids in documents)
    assert train.tokenizer_fingerprint == tokenizer.fingerprint
    assert train.tokens.dtype == np.dtype("<u2")
    spans = pq.read_table(tmp_path / "spans.parquet").to_pylist()
    for span in spans[::100]:
        tokens = (train if span["split"] == "train" else validation).tokens[span["start"] : span["end"]]
        assert tokens.tolist()[1:-1] == documents[int(span["document"][1:])]
    again = tmp_path / "again"
    write(again, tokenizer)
    for path in again.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_damaged_shards_are_refused(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    write(tmp_path, tokenizer)
    whole = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(whole[:-2])
    with pytest.raises(ArtifactError, match=r"train\.bin is damaged: it has"):
        TokenShard(tmp_path, "train")
    (tmp_path / "train.bin").write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ArtifactError, match="checksum"):
        verify_shards(tmp_path)
    (tmp_path / "train.bin").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        TokenShard(tmp_path, "train")
    manifest = json.loads((tmp_path / "tokens.json").read_text())
    for damaged in ("{", "[]", "{}", json.dumps({**manifest, "format": 99}), '{"format": 1, "dtype": "<u2"}'):
        (tmp_path / "tokens.json").write_text(damaged)
        with pytest.raises(ArtifactError):
            TokenShard(tmp_path, "train")
    (tmp_path / "tokens.json").unlink()
    with pytest.raises(ArtifactError, match=r"no tokens\.json"):
        TokenShard(tmp_path, "train")


def test_an_interrupted_writer_leaves_no_manifest(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    with pytest.raises(KeyError), ShardWriter(tmp_path, tokenizer):
        raise KeyError
    assert not (tmp_path / "tokens.json").exists()


def sources(folder: Path) -> list[RowSource]:
    shard = TokenShard(folder, "train")
    return [PretrainRows(shard, CONTEXT, 3), ContinuousRows(shard, CONTEXT, 3), SequentialRows(shard, CONTEXT)]


@pytest.mark.parametrize("kind", range(3))
def test_parts_are_the_whole_and_a_resumed_run_goes_on_with_the_same_rows(folder: Path, kind: int) -> None:
    source = sources(folder)[kind]
    start = source.rows_per_epoch - 10  # over the end of an epoch
    whole = source.rows(start, 20)
    resumed = sources(folder)[kind]
    assert same(whole.take(slice(10, 20)), resumed.rows(start + 10, 10))
    assert same(whole.take(slice(0, 10)), resumed.rows(start, 10))
    assert not same(whole.take(slice(0, 10)), source.rows(start + 10, 10))


@pytest.mark.parametrize("kind", [0, 2])
def test_an_epoch_learns_every_token_once(folder: Path, kind: int) -> None:
    shard, source = TokenShard(folder, "train"), sources(folder)[kind]
    batch = make_batch(source.rows(0, source.rows_per_epoch))
    learnt = Counter(batch.targets_BT[batch.targets_BT >= 0].tolist())
    firsts = [shard.document(index)[0] for index in range(len(shard))] if kind == 0 else [shard.tokens[0]]
    assert learnt == Counter(shard.tokens.tolist()) - Counter(int(token) for token in firsts)
    assert source.efficiency == pytest.approx(batch.num_tokens / batch.input_ids_BT.numel())


def test_each_epoch_has_every_document_in_another_order(folder: Path) -> None:
    shard = TokenShard(folder, "train")
    source = PretrainRows(shard, 128, 3)  # longer than every document
    documents = Counter(tuple(shard.document(index).tolist()) for index in range(len(shard)))
    first = source.rows(0, source.rows_per_epoch)
    assert source.epoch(source.rows_per_epoch - 1) == 0
    assert source.epoch(source.rows_per_epoch) == 1
    found: list[list[tuple[int, ...]]] = []
    row = 0
    for epoch in range(2):
        found.append([])
        while source.epoch(row) == epoch:
            rows = source.rows(row, 1)
            for segment in range(1, int(rows.segment_ids.max()) + 1):
                found[epoch].append(tuple(rows.input_ids[rows.segment_ids == segment].tolist()))
            row += 1
        assert Counter(found[epoch]) == documents
    assert found[0] != found[1]
    assert not same(first, PretrainRows(shard, 128, 4).rows(0, len(first)))
    assert source.efficiency > 0.98


def test_far_epochs_can_be_opened_directly(folder: Path) -> None:
    near, far = sources(folder)[0], sources(folder)[0]
    row = 0
    for _ in range(5):
        row += near.rows_per_epoch
        expected = near.rows(row, 3)
    assert same(expected, far.rows(row, 3))
    assert same(near.rows(0, 3), far.rows(0, 3))


def test_crops_are_pieces_of_the_text_from_everywhere(folder: Path) -> None:
    shard = TokenShard(folder, "validation")
    rows = ContinuousRows(shard, CONTEXT, 0).rows(0, 200)
    text = shard.tokens.astype("<u2").tobytes()
    places = [text.find(row.astype("<u2").tobytes()) / len(text) for row in rows.input_ids]
    assert min(places) >= 0
    assert min(places) < 0.05 < 0.9 < max(places)
    assert (rows.segment_ids == 1).all()


def test_too_little_text_is_a_data_error(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    with ShardWriter(tmp_path, tokenizer) as writer:
        writer.add("train", [9, 9], document="a", source="s", num_bytes=2)
    with pytest.raises(DataError, match="4 tokens, but 32 are needed"):
        ContinuousRows(TokenShard(tmp_path, "train"), CONTEXT, 0)
    with pytest.raises(DataError, match="validation split"):
        PretrainRows(TokenShard(tmp_path, "validation"), CONTEXT, 0)
    assert PretrainRows(TokenShard(tmp_path, "train"), CONTEXT, 0).rows(7, 1).num_tokens == 4
