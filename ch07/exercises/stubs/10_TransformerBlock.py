"""Exercise 10: one block of GPT-2 (the book's section 4.5)."""

from torch import nn

from gpt_model import FeedForward, MultiHeadAttention  # the two parts of a block


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each reads a normalised copy and adds to the stream.

    `config` is a GPTConfig (emb_dim, drop_rate ...), `layer` the block's number. Its parts, by
    name: `norm1` and `norm2` are nn.LayerNorm(emb_dim), `att` is MultiHeadAttention(config,
    layer), `ff` is FeedForward(config), and a dropout of `drop_rate` follows `att` and `ff`,
    before their results are added (one dropout module, of any name, is enough for both). GPT-2
    normalises before each part, not after it.
    """

    def __init__(self, config, layer):
        super().__init__()
        raise NotImplementedError

    def forward(self, x):
        """(B, T, C) -> (B, T, C)."""
        raise NotImplementedError
