"""Text to token ids and back: our own tokenizers and those of any Hugging Face folder."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tutelage.data.special_tokens import find_special_tokens
from tutelage.errors import ArtifactError, DataError


class TextTokenizer:
    """A tokenizer with its chat template; ids of special tokens are never made from ordinary text.

    `bos_id` and `eos_id` begin and end a document, `end_of_turn_id` ends a message, `pad_id` is none of them;
    `begin_call_id` begins a tool call inside a message of the assistant (None: calls are written as text).
    """

    def __init__(self, tokenizer_json: str, config: Mapping[str, Any]) -> None:
        self._json = tokenizer_json
        self._config = dict(config)
        content = json.loads(tokenizer_json)
        base = Tokenizer.from_str(tokenizer_json)
        vocabulary: dict[str, int] = base.get_vocab()
        special = [token["content"] for token in content["added_tokens"] if token["special"]]
        self.special_tokens = find_special_tokens(vocabulary, special, self._config)
        roles = self.special_tokens
        self.pad_id, self.bos_id = vocabulary[roles.pad], vocabulary[roles.bos]
        self.eos_id, self.end_of_turn_id = vocabulary[roles.eos], vocabulary[roles.end_of_turn]
        self.begin_call_id = vocabulary[roles.begin_call] if roles.begin_call is not None else None
        self.vocab_size = max(vocabulary.values()) + 1
        self.chat_template: str | None = self._config.get("chat_template")
        self.fingerprint = hashlib.sha256(f"{tokenizer_json}\0{self.chat_template or ''}".encode()).hexdigest()

        control = {roles.pad, roles.bos, roles.eos, roles.end_of_turn, *special}
        self.special_ids = frozenset(vocabulary[token] for token in control)
        self._markup = _open(content, control)  # parses special tokens: for the text of templates
        self._plain = _open(content, control)
        self._plain.encode_special_tokens = True
        self.is_byte_level = _is_byte_level(content.get("decoder"))
        self._alphabet = _alphabet(content)

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """Open a folder with `tokenizer.json` and `tokenizer_config.json`; `ArtifactError` if it holds none."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ArtifactError(f"{folder} has no tokenizer.json", hint="name the folder of a tokenizer or of a model")
        try:
            config = _read_config(folder)
            return cls(path.read_text(encoding="utf-8"), config)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read: {error!r}", hint="make the tokenizer again") from error
        except Exception as error:  # `tokenizers` raises bare Exception for a file that it cannot parse
            if type(error) is not Exception:
                raise
            raise ArtifactError(f"{path} cannot be read: {error}", hint="make the tokenizer again") from error

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, the chat template inside."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "tokenizer.json", self._json)
        _write(folder / "tokenizer_config.json", json.dumps(self._config, ensure_ascii=False, indent=2) + "\n")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids at which generation stops: end of turn and end of document."""
        return tuple(dict.fromkeys((self.end_of_turn_id, self.eos_id)))

    def encode(self, text: str) -> list[int]:
        """Token ids of ordinary text: nothing is added, and `<|end|>` inside it is seven characters, not a token."""
        if self._alphabet is not None:
            return _encode_characters(text, self._alphabet)
        ids: list[int] = self._plain.encode(_storable(text), add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        if self._alphabet is not None:
            return [_encode_characters(text, self._alphabet) for text in texts]
        encodings = self._plain.encode_batch_fast([_storable(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_markup(self, text: str) -> list[int]:
        """Token ids of a template's own text, in which the names of special tokens are those tokens."""
        ids: list[int] = self._markup.encode(_storable(text), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._plain.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token(self, token_id: int) -> str:
        """The vocabulary's name of a token; empty for an id outside the vocabulary."""
        return self._plain.id_to_token(token_id) or ""

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes that each id stands for (byte-level tokenizers only)."""
        assert self.is_byte_level
        return [_bytes_of(self.token(token_id)) for token_id in range(self.vocab_size)]


class IncrementalDecoder:
    """Text of ids that arrive one by one: the pieces joined are the text of the whole.

    A character whose bytes have not all come is held back, so that no piece is ever taken back.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []  # other kinds than byte-level: everything, and what of it has been given out
        self._given = 0

    def push(self, token_id: int) -> str:
        """The text that has become certain with this id; special tokens are silent."""
        if token_id in self._tokenizer.special_ids:
            return ""
        if self._tokenizer.is_byte_level:
            return self._bytes.decode(self._tokenizer.token_bytes[token_id])
        self._ids.append(token_id)
        return self._give(self._tokenizer.decode(self._ids).rstrip("\ufffd"))

    def finish(self) -> str:
        """What was held back; an incomplete character is U+FFFD."""
        if self._tokenizer.is_byte_level:
            return self._bytes.decode(b"", final=True)
        return self._give(self._tokenizer.decode(self._ids))

    def _give(self, text: str) -> str:
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece


def _storable(text: str) -> str:
    """The text with each lone half of a surrogate pair, which has no UTF-8 form, as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _open(content: Mapping[str, Any], control: set[str]) -> Tokenizer:
    """A tokenizer in which every control token counts as special, without truncation and padding."""
    added = [{**token, "special": token["content"] in control} for token in content["added_tokens"]]
    return Tokenizer.from_str(json.dumps({**content, "added_tokens": added, "truncation": None, "padding": None}))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    template = folder / "chat_template.jinja"  # newer folders keep it beside
    if template.is_file():
        config["chat_template"] = template.read_text(encoding="utf-8")
    if isinstance(config.get("chat_template"), list):  # several by name
        named = {entry["name"]: entry["template"] for entry in config["chat_template"]}
        config["chat_template"] = named.get("default")
    return config


def _is_byte_level(decoder: Mapping[str, Any] | None) -> bool:
    return decoder is not None and decoder["type"] == "ByteLevel"


def _alphabet(content: Mapping[str, Any]) -> dict[str, int] | None:
    """The letters of a tokenizer of characters and their ids; None for all other kinds."""
    model = content["model"]
    if model["type"] != "BPE" or model["merges"] or model.get("byte_fallback") or model.get("unk_token"):
        return None
    if _is_byte_level(content.get("decoder")) or content.get("normalizer"):
        return None
    return {token: token_id for token, token_id in model["vocab"].items() if len(token) == 1}


def _encode_characters(text: str, alphabet: Mapping[str, int]) -> list[int]:
    """Look every letter up: `tokenizers` would give the same ids, more slowly, and pass over unknown letters."""
    try:
        return [alphabet[letter] for letter in text]
    except KeyError:
        unknown = sorted(set(text) - set(alphabet))
        raise DataError(
            f"the character {unknown[0]!r} (U+{ord(unknown[0]):04X}) is not among the tokenizer's {len(alphabet)} "
            f"characters ({len(unknown)} such in this text)",
            hint="train a tokenizer of `kind: bpe`, which can write every text, or one on text that has it",
        ) from None


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable Latin-1 stands for itself, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_LETTERS = _byte_letters()


def _bytes_of(token: str) -> bytes:
    if all(letter in _BYTE_LETTERS for letter in token):
        return bytes(_BYTE_LETTERS[letter] for letter in token)
    return token.encode()  # an added token is written as it is


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
