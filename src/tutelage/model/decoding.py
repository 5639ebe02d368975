"""A decoder's forward over single tokens by the kernel of decode.c: weights packed once, a cache written in place."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.model import kernels
from tutelage.model.rope import rotary_tables
from tutelage.model.transformer import Attention, Block, CausalLM, Linear

PANEL = 16  # as in decode.c: outputs computed together
MAX_ROWS = 256  # tokens a call: activations stay near the processor


class _Layer(ctypes.Structure):
    _names_ = ("norm", "qkv", "qkv_bias", "q_norm", "k_norm", "out", "out_bias",
               "mlp_norm", "gate_up", "gate_up_bias", "down", "down_bias")  # fmt: skip
    _fields_ = [(name, ctypes.c_void_p) for name in _names_]


class _Model(ctypes.Structure):
    _sizes_ = ("layers", "hidden", "heads", "kv_heads", "head_dim", "inner", "vocab")
    _fields_ = [
        *((name, ctypes.c_int64) for name in _sizes_),
        *((name, ctypes.c_void_p) for name in ("embeddings", "norm", "head", "cosines", "sines", "layer")),
        ("eps", ctypes.c_float),
        ("threads", ctypes.c_int),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("keys", "values")] + [
        (name, ctypes.c_int64) for name in ("slots", "capacity")
    ]


def can_pack(model: CausalLM) -> bool:
    """Whether the kernel takes this model: plain float32 weights in this machine's memory, heads of whole vectors."""
    return (
        model.config.head_dim % 8 == 0 and model.compute_dtype == torch.float32 and kernels.takes(*model.parameters())
    )


class PackedDecoder:
    """A copy of a model's weights in the order in which decode.c reads them; the model may change afterwards."""

    @torch.no_grad()
    def __init__(self, model: CausalLM) -> None:
        config = self.config = model.config
        self._kept: list[Tensor] = []  # what the structures point at
        self._scratch = torch.empty(0)
        self._logits = torch.empty(0, config.vocab_size)
        layers = [self._layer(block) for block in model.model.layers]  # type: ignore[arg-type]  # a ModuleList of Blocks
        self._layers = (_Layer * len(layers))(*layers)
        self._model = _Model(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.intermediate_size,
            config.vocab_size,
            embeddings=self._keep(model.model.embed_tokens.weight.clone()),
            norm=self._keep(model.model.norm.weight.clone()),
            head=self._keep(pack_panels(model.lm_head.matrix())),
            layer=ctypes.addressof(self._layers),
            eps=config.rms_norm_eps,
        )
        self._frequencies = model.model.inverse_frequencies
        self._tables: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        self._extend_tables(min(512, config.max_position_embeddings))

    def forward(
        self,
        keys: Tensor,
        values: Tensor,
        tokens_N: Tensor,
        slots_N: Tensor,
        positions_N: Tensor,
        last: Sequence[int] | None = None,
    ) -> Tensor:
        """Logits after the rows numbered in `last` (all, if None); keys and values [L, B, K, S, E] are written.

        Row n is the token at a position of the sequence in a slot; the rows of a sequence come in their order, and
        everything before them is in the cache. The logits stay until the next call.
        """
        N = len(tokens_N)
        last_N = torch.arange(N) if last is None else torch.tensor(last, dtype=torch.long)
        logits = self._logits_of(len(last_N))
        capacity = keys.shape[3]
        self._extend_tables(capacity)
        self._model.threads = kernels.threads_for(N * (self.config.intermediate_size + self.config.vocab_size))
        cache = _Cache(keys.data_ptr(), values.data_ptr(), keys.shape[1], capacity)
        rows = (tokens_N.contiguous(), slots_N.clone(), positions_N.clone())  # the last two are used up
        kernels.library().decode_rows(
            ctypes.addressof(self._model),
            ctypes.addressof(cache),
            *(tensor.data_ptr() for tensor in rows),
            N,
            last_N.data_ptr(),
            len(last_N),
            logits.data_ptr(),
            self._room(N, capacity).data_ptr(),
        )
        return logits

    def _logits_of(self, rows: int) -> Tensor:
        """The same memory every time: fresh pages cost more than what is written on them."""
        if self._logits.shape[0] < rows:
            self._logits = torch.empty(rows, self.config.vocab_size)
        return self._logits[:rows]

    def _room(self, rows: int, capacity: int) -> Tensor:
        c = self.config
        heads = (2 * c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim
        fill = 5 * 16  # rows are 16 floats apart
        floats = rows * (
            2 * c.hidden_size + heads + c.intermediate_size + fill + c.num_key_value_heads * (capacity + 8)
        )
        if self._scratch.numel() < floats:
            self._scratch = torch.empty(floats)
        return self._scratch

    def _extend_tables(self, length: int) -> None:
        if self._tables[0].numel() >= length * self.config.head_dim:
            return
        cos, sin = rotary_tables(self._frequencies, torch.arange(length)[None], torch.float32)
        self._tables = (cos.contiguous(), sin.contiguous())
        self._model.cosines, self._model.sines = (table.data_ptr() for table in self._tables)

    def _layer(self, block: Block) -> _Layer:
        attention, mlp = block.self_attn, block.mlp
        qkv = (attention.q_proj, attention.k_proj, attention.v_proj)
        gate_up = (mlp.gate_proj, mlp.up_proj)
        return _Layer(
            norm=self._keep(block.input_layernorm.weight.clone()),
            qkv=self._keep(pack_panels(torch.cat([linear.matrix() for linear in qkv]))),
            qkv_bias=self._bias(*qkv),
            **self._head_norms(attention),
            out=self._keep(pack_panels(attention.o_proj.matrix())),
            out_bias=self._bias(attention.o_proj),
            mlp_norm=self._keep(block.post_attention_layernorm.weight.clone()),
            gate_up=self._keep(pack_panels(_woven(*(linear.matrix() for linear in gate_up)))),
            gate_up_bias=self._bias(*gate_up, woven=True),
            down=self._keep(pack_panels(mlp.down_proj.matrix())),
            down_bias=self._bias(mlp.down_proj),
        )

    def _head_norms(self, attention: Attention) -> dict[str, int | None]:
        norms = {"q_norm": attention.q_norm, "k_norm": attention.k_norm}
        return {name: None if norm is None else self._keep(norm.weight.clone()) for name, norm in norms.items()}

    def _bias(self, *linears: Linear, woven: bool = False) -> int | None:
        biases = [linear.bias[:, None] for linear in linears if linear.bias is not None]
        if not biases:
            return None
        whole = _woven(*biases) if woven else torch.cat(biases)
        return self._keep(pack_panels(whole))

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()


def pack_panels(weight_NK: Tensor) -> Tensor:
    """[N/16, K, 16]: rows of the weight in panels of 16, the last one filled up with zeros."""
    N, K = weight_NK.shape
    padded = torch.nn.functional.pad(weight_NK, (0, 0, 0, -N % PANEL))
    return padded.view(-1, PANEL, K).transpose(1, 2).contiguous()


def _woven(gate_NK: Tensor, up_NK: Tensor) -> Tensor:
    """Eight rows of the gate, then the same eight of `up`, and so on: a panel has all that its SwiGLU needs."""
    half, fill = PANEL // 2, -gate_NK.shape[0] % (PANEL // 2)
    parts = [torch.nn.functional.pad(part, (0, 0, 0, fill)).view(-1, half, part.shape[1]) for part in (gate_NK, up_NK)]
    return torch.stack(parts, 1).flatten(0, 2)
