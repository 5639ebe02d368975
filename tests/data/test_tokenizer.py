from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.special_tokens import SPECIAL_TOKENS
from tutelage.data.tokenizer import IncrementalDecoder, TextTokenizer
from tutelage.data.train_tokenizer import train_bpe, train_characters
from tutelage.errors import ArtifactError, DataError, RecipeError

from .conftest import TEXTS

BPE = train_bpe(TEXTS, 320)
LETTERS = train_characters(["abcdefgh\n <|>end"])

# texts that often hold the names of special tokens
special_texts = st.lists(st.one_of(st.text(), st.sampled_from(SPECIAL_TOKENS))).map("".join)


@given(special_texts)
def test_every_text_comes_back_and_is_never_a_special_token(text: str) -> None:
    ids = BPE.encode(text)
    assert BPE.decode(ids) == text
    assert not BPE.special_ids & set(ids)
    assert BPE.encode_batch([text, text]) == [ids, ids]


@given(st.text(alphabet="abcdefgh\n <|>end"))
def test_characters_come_back_one_token_each(text: str) -> None:
    ids = LETTERS.encode(text)
    assert len(ids) == len(text)
    assert LETTERS.decode(ids) == text
    assert LETTERS._plain.encode(text, add_special_tokens=False).ids == ids  # as other readers of the file encode


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(DataError, match=r"'ß' \(U\+00DF\)"):
        LETTERS.encode("abß")


def test_half_of_a_surrogate_pair_becomes_the_replacement_character() -> None:
    assert BPE.decode(BPE.encode("a\ud800b")) == "a\ufffdb"


def test_special_tokens_have_the_first_ids() -> None:
    for tokenizer in (BPE, LETTERS):
        assert [tokenizer.token(index) for index in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)
        assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.end_of_turn_id) == (0, 1, 2, 7)
        assert tokenizer.stop_ids == (7, 2)


def test_training_is_deterministic_and_does_not_depend_on_the_order_of_texts() -> None:
    assert train_bpe(TEXTS, 320).fingerprint == BPE.fingerprint
    assert train_bpe(TEXTS[::-1], 320).fingerprint == BPE.fingerprint
    assert train_bpe([*TEXTS, "zzz zzz"], 330).fingerprint != BPE.fingerprint


def test_digits_are_single_tokens_and_min_frequency_is_kept() -> None:
    tokenizer = train_bpe(["2024 2024 2024 abab abab cd"], 400, min_frequency=2)
    assert len(tokenizer.encode("2024")) == 4
    tokens = {tokenizer.token(index) for index in range(tokenizer.vocab_size)}
    assert "Ġabab" in tokens
    assert "Ġcd" not in tokens


def test_bad_arguments() -> None:
    with pytest.raises(RecipeError, match="vocab_size is 100"):
        train_bpe(TEXTS, 100)
    with pytest.raises(DataError, match="no text"):
        train_bpe(["", ""], 300)
    with pytest.raises(DataError, match="no text"):
        train_characters([])


@pytest.mark.parametrize("tokenizer", [BPE, LETTERS], ids=["bpe", "characters"])
def test_saved_and_loaded_is_the_same(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "a")
    loaded = TextTokenizer.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.encode("abc def") == tokenizer.encode("abc def")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_damaged_folder_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        TextTokenizer.load(tmp_path)
    BPE.save(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text()
    for damaged in (whole[:1000], "{}", '{"added_tokens": [], "model": {"type": "Nothing"}}'):
        (tmp_path / "tokenizer.json").write_text(damaged)
        with pytest.raises(ArtifactError, match="cannot be read"):
            TextTokenizer.load(tmp_path)


def test_roles_of_foreign_special_tokens(tokenizers: dict[str, TextTokenizer]) -> None:
    roles = tokenizers["chatml"].special_tokens
    assert (roles.bos, roles.eos, roles.end_of_turn) == ("<|endoftext|>", "<|endoftext|>", "<|im_end|>")
    assert roles.pad == "<reserved>"  # the folder pads with <|im_end|>, which must be learnt
    roles = tokenizers["llama3"].special_tokens
    assert (roles.bos, roles.eos, roles.end_of_turn) == ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
    assert roles.pad == "<|reserved_special_token_0|>"
    for each in tokenizers.values():
        assert each.pad_id not in {each.bos_id, *each.stop_ids}


def test_a_template_in_a_file_beside_and_a_control_token_not_marked_special(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["special"] = token["content"] != "<|end|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[1]['content'] }}<|end|>")
    loaded = TextTokenizer.load(tmp_path)
    assert loaded.chat_template == "{{ messages[1]['content'] }}<|end|>"
    assert loaded.end_of_turn_id not in loaded.encode("a<|end|>")


@settings(max_examples=60)
@given(st.lists(st.integers(0, BPE.vocab_size - 1), max_size=40))
def test_pieces_joined_are_the_whole_for_any_bytes(ids: list[int]) -> None:
    decoder = IncrementalDecoder(BPE)
    pieces = [decoder.push(token_id) for token_id in ids]
    assert "".join(pieces) + decoder.finish() == BPE.decode(ids)


@given(st.text())
def test_no_piece_of_a_text_has_half_a_character(text: str) -> None:
    decoder = IncrementalDecoder(BPE)
    given_out = ""
    for token_id in BPE.encode(text):
        given_out += decoder.push(token_id)
        assert text.startswith(given_out)
    assert given_out == text
    assert decoder.finish() == ""


@given(st.lists(st.integers(0, LETTERS.vocab_size - 1)))
def test_pieces_of_characters(ids: list[int]) -> None:
    decoder = IncrementalDecoder(LETTERS)
    assert "".join([decoder.push(token_id) for token_id in ids]) + decoder.finish() == LETTERS.decode(ids)
