"""Prefix tuning: P columns in front of every row, keys and values that were trained, not read.

The one idea: attention looks at keys and values and doesn't ask where they come from. So P pairs
of them for every layer are put in front as if so many tokens had been read, and they alone are
trained; the model stands still, and without the prefix it is what it was, bit for bit. The prefix
has no positions of its own, but tokens are counted from P on, so a row has P fewer.

Axes: B batch, P prefix, L layers, H heads, D head size, C = H * D.
Source: Li & Liang 2021, "Prefix-Tuning", section 4; Liu et al. 2022, "P-Tuning v2", section 3, with
the layout of Hugging Face's peft.
"""

from dataclasses import replace

import torch
from torch import nn

from gpt_model import KVCache


class PrefixEncoder(nn.Module):
    """Makes the table of a prefix, (P, 2 * L * C): layer l's keys, then its values, from 2 * l * C.

    Without `hidden` the table itself is trained. With it, P vectors of width C are, and two layers
    of that width that make the table from them (tanh between), which trains more steadily (Li &
    Liang, section 4.3); afterwards only the table is needed. `generator` draws the first values.
    """

    def __init__(self, config, length, hidden=None, generator=None):
        super().__init__()
        if length < 1:
            raise ValueError(f"a prefix of {length} columns: it must have 1 or more")
        if length >= config.context_length:
            raise ValueError(
                f"a prefix of {length} columns leaves no room for text: this model reads "
                f"{config.context_length}"
            )
        wide = 2 * config.n_layers * config.emb_dim
        width = wide if hidden is None else config.emb_dim
        self.embedding = nn.Parameter(torch.randn(length, width, generator=generator))
        self.transform = None
        if hidden is not None:
            self.transform = nn.Sequential(
                _linear(width, hidden, generator), nn.Tanh(), _linear(hidden, wide, generator)
            )

    def forward(self):
        return self.embedding if self.transform is None else self.transform(self.embedding)


def _linear(n_in, n_out, generator):
    """A linear layer with PyTorch's own first values, from a stream of its own."""
    linear, bound = nn.Linear(n_in, n_out), n_in**-0.5
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
        self.prefix_length = prefix_length

    def real_columns(self, columns: torch.Tensor, left_padding: torch.Tensor) -> torch.Tensor:
        """As in `KVCache`, but the padding of a row follows the prefix."""
        in_prefix = columns < self.prefix_length
        return in_prefix | super().real_columns(columns - self.prefix_length, left_padding)


class PrefixTuned(nn.Module):
    """A frozen `GPTModel` behind a prefix; called as the model itself is.

    The prefix is made anew in every call without a cache, so that gradients reach it.
    """

    def __init__(self, base, encoder):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.encoder = encoder
        with torch.no_grad():
            self.length = len(encoder())

    @property
    def config(self):
        """The model's shape; its context is what the prefix leaves of it."""
        config = self.base.config
        return replace(config, context_length=config.context_length - self.length)

    def new_cache(self, max_length):
        """An empty KV cache with room for the prefix and `max_length` columns."""
        return PrefixKVCache(self.base.config.n_layers, max_length, self.length)

    def forward(self, token_ids, wanted=None, cache=None, left_padding=None):
        """As `GPTModel.forward`."""
        if cache is None:
            cache = self.new_cache(token_ids.shape[1])
        if cache.length == 0:
            self._fill(cache, len(token_ids))
        return self.base(token_ids, wanted, cache, left_padding)

    def _fill(self, cache, B):
        c, table = self.base.config, self.encoder()
        if torch.is_autocast_enabled(table.device.type):  # the format that the tokens' keys have
            table = table.to(torch.get_autocast_dtype(table.device.type))
        shape = (len(table), 2 * c.n_layers, c.n_heads, c.emb_dim // c.n_heads)
        parts = table.view(shape).permute(1, 2, 0, 3)  # (P, 2LC) -> (2L, H, P, D)
        for layer in range(c.n_layers):
            keys, values = parts[2 * layer : 2 * layer + 2, None].expand(-1, B, -1, -1, -1)
            cache.extend(layer, keys, values)  # (B, H, P, D) each
