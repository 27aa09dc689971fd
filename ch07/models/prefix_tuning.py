"""Prefix tuning: P columns of trained keys and values in front of every row; the rest is frozen.

Attention only sees keys and values, wherever they come from. Prefix tuning puts P pairs of them in
front of a row in every layer, as if P tokens had been read before it, and trains nothing else.
Without the prefix the model is unchanged, bit for bit. The prefix has no position embeddings, but
the positions of the tokens start at P, so a row can hold P tokens fewer.

Axes: B batch, P prefix, L layers, G heads of keys and values, D head size; in GPT-2, G * D = C.
Source: Li & Liang 2021, "Prefix-Tuning", section 4; Liu et al. 2022, "P-Tuning v2", section 3, with
the layout of Hugging Face's peft.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ch07.models.architectures import BaseModel, ModelConfig
from ch07.utils.errors import InputError
from gpt_model import KVCache


class PrefixEncoder(nn.Module):
    """Computes the table of a prefix, (P, 2 * L * G * D): for each layer its keys, then its values.

    Without `hidden` the table itself is trained. With it, P vectors of width C are trained, and two
    layers with `hidden` units and a tanh between them that compute the table; this trains more
    steadily (Li & Liang, section 4.3). After training only the table is needed. `generator` draws
    the initial values. ValueError unless 1 <= `length` < the model's context.
    """

    def __init__(
        self,
        config: ModelConfig,
        length: int,
        hidden: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if length < 1:
            raise InputError(f"a prefix of {length} columns: it must have 1 or more")
        if length >= config.context_length:
            raise InputError(
                f"a prefix of {length} columns leaves no space for text: this model's context "
                f"has {config.context_length}"
            )
        table_width = prefix_width(config)
        width = table_width if hidden is None else config.emb_dim
        self.embedding = nn.Parameter(torch.randn(length, width, generator=generator))
        self.transform: nn.Sequential | None = None
        if hidden is not None:
            self.transform = nn.Sequential(
                _linear(width, hidden, generator),
                nn.Tanh(),
                _linear(hidden, table_width, generator),
            )

    def forward(self) -> Tensor:
        """The table, (P, 2 * L * G * D)."""
        return self.embedding if self.transform is None else self.transform(self.embedding)


def prefix_width(config: ModelConfig) -> int:
    """How many numbers a column of a prefix has: keys and values of all layers."""
    return 2 * config.n_layers * config.n_kv_heads * config.head_size


def _linear(n_in: int, n_out: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with PyTorch's default distribution, drawn from `generator`."""
    linear = nn.Linear(n_in, n_out)
    bound = n_in**-0.5
    with torch.no_grad():
        for weight in linear.parameters():
            weight.uniform_(-bound, bound, generator=generator)
    return linear


class PrefixKVCache(KVCache):
    """A KV cache whose first `prefix_length` columns are the prefix, which every row attends to.

    It has room for `max_length` columns of tokens after it.
    """

    def __init__(self, n_layers: int, max_length: int, prefix_length: int) -> None:
        super().__init__(n_layers, prefix_length + max_length)
        self.in_front = prefix_length


class PrefixTuned(nn.Module):
    """A frozen model behind a prefix; called as the model itself is.

    A call without a cache, or with an empty one, computes the prefix, so that gradients reach it.
    In training, dropout sets the share `drop_rate` of its numbers to zero, others for each row, as
    P-tuning v2's `get_prompt` does.
    """

    def __init__(self, base: BaseModel, encoder: PrefixEncoder, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(drop_rate)
        self.base = base.requires_grad_(False)
        self.encoder = encoder
        with torch.no_grad():
            self.length = len(encoder())

    @property
    def config(self) -> ModelConfig:
        """The model's shape, with the context that the prefix leaves."""
        config = self.base.config
        return replace(config, context_length=config.context_length - self.length)

    def new_cache(self, max_length: int) -> KVCache:
        """An empty KV cache with room for the prefix and `max_length` columns."""
        return PrefixKVCache(self.base.config.n_layers, max_length, self.length)

    def forward(
        self,
        token_ids: Tensor,
        wanted: Tensor | tuple[Tensor | slice | int, ...] | None = None,
        cache: KVCache | None = None,
        left_padding: Tensor | None = None,
    ) -> Tensor:
        """As `GPTModel.forward`."""
        if cache is None:
            cache = self.new_cache(token_ids.shape[1])
        if cache.length == 0:
            self._fill(cache, len(token_ids))
        return self.base(token_ids, wanted, cache, left_padding)

    def _fill(self, cache: KVCache, B: int) -> None:
        """Put the prefix into an empty cache, once for each of the B rows."""
        config = self.base.config
        table = self.encoder()
        if torch.is_autocast_enabled(table.device.type):  # as the keys of tokens are then
            table = table.to(torch.get_autocast_dtype(table.device.type))
        shape = (len(table), 2 * config.n_layers, config.n_kv_heads, config.head_size)
        parts = table.view(shape).permute(1, 2, 0, 3)  # (P, 2LGD) -> (2L, G, P, D)
        for layer in range(config.n_layers):
            both = parts[2 * layer : 2 * layer + 2, None].expand(-1, B, -1, -1, -1)
            keys, values = self.dropout(both)
            cache.extend(layer, keys, values)  # (B, G, P, D) each
