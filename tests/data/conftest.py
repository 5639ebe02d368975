from __future__ import annotations

import json

import pytest

from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.train_tokenizer import train_bpe

TEXTS = [
    "The capital of France is Paris. The capital of Spain is Madrid.",
    "What is the capital of France? The capital of France is Paris.",
    "user assistant system 12 + 30 = 42\n\nNew lines, tabs\tand naïve café words.",
] * 4

# Written for these tests after the published forms of ChatML (SmolLM2, Qwen) and Llama 3.
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}\n"
    "    {{- message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n"
    "{%- endif %}\n"
)


def foreign(special: list[str], config: dict[str, object]) -> TextTokenizer:
    """A tokenizer as other projects save it: the same merges, other special tokens, ids at the end."""
    content = json.loads(train_bpe(TEXTS, 320)._json)
    own = {token["content"] for token in content["added_tokens"]}
    pieces = [token for token in content["model"]["vocab"] if token not in own]
    content["model"]["vocab"] = {token: index for index, token in enumerate(pieces)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] = [
        {"id": len(pieces) + index, "content": token, **flags} for index, token in enumerate(special)
    ]
    return TextTokenizer(json.dumps(content), config)


def chatml() -> TextTokenizer:
    return foreign(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<reserved>"],
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "chat_template": CHATML,
        },
    )


def llama3() -> TextTokenizer:
    return foreign(
        [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|reserved_special_token_0|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ],
        {
            "bos_token": {"content": "<|begin_of_text|>", "__type": "AddedToken"},
            "eos_token": "<|eot_id|>",
            "chat_template": LLAMA3,
        },
    )


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return train_bpe(TEXTS, 320)


@pytest.fixture(scope="session")
def tokenizers(tokenizer: TextTokenizer) -> dict[str, TextTokenizer]:
    return {"own": tokenizer, "chatml": chatml(), "llama3": llama3()}
