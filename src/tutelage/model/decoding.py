"""A decoder's forward over single tokens by the kernel of decode.c: weights packed once, a cache written in place."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tutelage.model import kernels, tiles
from tutelage.model.rope import rotary_tables
from tutelage.model.transformer import Attention, Block, CausalLM, Linear

PANEL = 16  # as in decode.c: outputs computed together
WIDEST = 512  # as in attend.h: heads in bfloat16
MAX_ROWS = 256  # tokens a call: activations stay near the processor


class _Linear(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("panels", "bias")]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("norm", "q_norm", "k_norm", "mlp_norm")),
        *((name, _Linear) for name in ("qkv", "out", "gate_up", "down")),
    ]


class _Model(ctypes.Structure):
    _sizes_ = ("layers", "hidden", "heads", "kv_heads", "head_dim", "inner", "vocab")
    _fields_ = [
        *((name, ctypes.c_int64) for name in _sizes_),
        *((name, ctypes.c_void_p) for name in ("embeddings", "norm", "cosines", "sines")),
        ("head", _Linear),
        ("layer", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("threads", "bfloat16")),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("keys", "values")] + [
        (name, ctypes.c_int64) for name in ("slots", "capacity")
    ]


def can_pack(model: CausalLM) -> bool:
    """Whether the kernel takes this model: plain float32 weights in this machine's memory, heads of whole vectors.

    A model that computes in bfloat16 needs a processor with tiles for it (AMX).
    """
    if model.config.head_dim % 8 or not kernels.takes(*model.parameters()):
        return False
    if model.compute_dtype == torch.bfloat16:
        return model.config.head_dim % tiles.BLOCK == 0 and model.config.head_dim <= WIDEST and tiles.available()
    return model.compute_dtype == torch.float32


class PackedDecoder:
    """A copy of a model's weights in the order in which decode.c reads them; the model may change afterwards.

    A model that computes in bfloat16 multiplies bfloat16 matrices here, too, and keeps keys and values in it; all
    else, the logits as well, is float32.
    """

    @torch.no_grad()
    def __init__(self, model: CausalLM) -> None:
        assert can_pack(model), "can_pack also asks for the processor's tiles"
        config = self.config = model.config
        self._kept: list[Tensor] = []  # what the structures point at
        self._dtype = model.compute_dtype
        self._scratch = torch.empty(0, dtype=torch.uint8)
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
            embeddings=self._keep(model.model.embed_tokens.weight.to(self._dtype, copy=True).float()),
            norm=self._keep(model.model.norm.weight.clone()),
            head=self._linear(model.lm_head),
            layer=ctypes.addressof(self._layers),
            eps=config.rms_norm_eps,
            bfloat16=self._dtype == torch.bfloat16,
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
        size = ctypes.c_int64()
        kernels.library().decode_scratch(ctypes.addressof(self._model), rows, capacity, ctypes.addressof(size))
        if self._scratch.numel() < size.value:
            self._scratch = torch.empty(size.value, dtype=torch.uint8)
        return self._scratch

    def _extend_tables(self, length: int) -> None:
        if self._tables[0].numel() >= length * self.config.head_dim:
            return
        cos, sin = rotary_tables(self._frequencies, torch.arange(length)[None], torch.float32)
        self._tables = (cos.contiguous(), sin.contiguous())
        self._model.cosines, self._model.sines = (table.data_ptr() for table in self._tables)

    def _layer(self, block: Block) -> _Layer:
        attention, mlp = block.self_attn, block.mlp
        return _Layer(
            norm=self._keep(block.input_layernorm.weight.clone()),
            **self._head_norms(attention),
            mlp_norm=self._keep(block.post_attention_layernorm.weight.clone()),
            qkv=self._linear(attention.q_proj, attention.k_proj, attention.v_proj),
            out=self._linear(attention.o_proj),
            gate_up=self._linear(mlp.gate_proj, mlp.up_proj, join=_woven),
            down=self._linear(mlp.down_proj),
        )

    def _head_norms(self, attention: Attention) -> dict[str, int | None]:
        norms = {"q_norm": attention.q_norm, "k_norm": attention.k_norm}
        return {name: None if norm is None else self._keep(norm.weight.clone()) for name, norm in norms.items()}

    def _linear(self, *linears: Linear, join: Callable[[list[Tensor]], Tensor] = torch.cat) -> _Linear:
        panels = pack_panels(join([linear.matrix() for linear in linears]), self._dtype)
        biases = [linear.bias[:, None] for linear in linears if linear.bias is not None]
        bias = self._keep(_filled_up(join(biases), tiles.BLOCK)) if biases else None
        return _Linear(self._keep(panels), bias)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()


def pack_panels(weight_NK: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight in the order of its use: [N/16, K, 16] in float32, as `tiles.pack` has it in bfloat16."""
    if dtype == torch.bfloat16:
        return tiles.pack(weight_NK.to(dtype).contiguous())
    return _filled_up(weight_NK, PANEL).view(-1, PANEL, weight_NK.shape[1]).transpose(1, 2).contiguous()


def _filled_up(rows: Tensor, size: int) -> Tensor:
    """With rows of zeros to a multiple of `size`."""
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % size))


def _woven(parts: list[Tensor]) -> Tensor:
    """Eight rows of the gate, then the same eight of `up`, and so on: a panel has all that its SwiGLU needs."""
    half = PANEL // 2
    return torch.stack([_filled_up(part, half).view(-1, half, part.shape[1]) for part in parts], 1).flatten(0, 2)
