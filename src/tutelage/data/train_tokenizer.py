"""Tokenizers of our own: byte-level BPE, and plain characters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tutelage.data.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS
from tutelage.data.template import DEFAULT_TEMPLATE
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError, RecipeError

# Where merges may not cross: English contractions; a word with the one sign before it; single digits, so that
# numbers are written the same way everywhere; punctuation with the line breaks after it; line breaks; other space.
SPLIT_PATTERN = "|".join(
    (
        r"'(?i:[sdmt]|ll|ve|re)",
        r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
LARGEST_VOCABULARY = 1_000_000  # `tokenizers` asks for the memory of all of it at once, and aborts without


def train_bpe(texts: Iterable[str], vocab_size: int = 2048, min_frequency: int = 2) -> TextTokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 1508.07909): it can write every text.

    The same texts in any order give the same bytes. `vocab_size` counts the special tokens and the 256 bytes; there
    are fewer tokens if the text has not enough pairs that occur `min_frequency` times.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise RecipeError(
            f"vocab_size is {vocab_size}, but the special tokens and 256 bytes alone are {SMALLEST_VOCABULARY}",
            hint=f"set vocab_size to {SMALLEST_VOCABULARY} or more, or kind to `characters`",
        )
    if vocab_size > LARGEST_VOCABULARY:
        raise RecipeError(
            f"vocab_size is {vocab_size:,}, more than the {LARGEST_VOCABULARY:,} that can be made",
            hint="vocabularies of language models have 1,000 to 300,000 tokens",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer)
    return _finish(tokenizer)


def train_characters(texts: Iterable[str]) -> TextTokenizer:
    """One token for each character of the texts, in code point order; encoding any other is a `DataError`."""
    alphabet = sorted({letter for text in _not_empty(texts) for letter in text})
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    # one word a character: else the whole text is one word, and the model's cache keeps copies of it
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return _finish(tokenizer)


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        empty = empty and not text
        yield text
    if empty:
        raise DataError("there is no text to make a tokenizer of", hint="look at what the stage before kept, and why")


def _finish(tokenizer: Tokenizer) -> TextTokenizer:
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": BOS,
        "eos_token": EOS,
        "additional_special_tokens": [token for token in SPECIAL_TOKENS if token not in (PAD, BOS, EOS)],
        "add_bos_token": False,  # the chat template writes it
        "clean_up_tokenization_spaces": False,
        "chat_template": DEFAULT_TEMPLATE,
    }
    content = json.loads(tokenizer.to_str())
    return TextTokenizer(json.dumps(content, ensure_ascii=False, indent=1) + "\n", config)
