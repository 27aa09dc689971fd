"""Exhibits on blocks and KV caches whose shapes are right and whose numbers are not."""

# ruff: noqa: RUF012

import torch
from torch import nn

from ch07.exercises.museum.exhibit import exhibit
from gpt_model import FeedForward, MultiHeadAttention


@exhibit(
    "TransformerBlock",
    "post-norm",
    "A reader asked Karpathy's minGPT to put the layer norm after the residual sum; GPT-2 has "
    "it before, and the request was closed (minGPT#52).",
    "https://github.com/karpathy/minGPT/pull/52",
)
class NormalisesAfterwards(nn.Module):
    """The sums are normalised, not the inputs of the parts, so GPT-2's weights don't fit it."""

    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x):
        x = self.norm1(x + self.dropout(self.att(x)))
        return self.norm2(x + self.dropout(self.ff(x)))


@exhibit(
    "TransformerBlock",
    "no-residual",
    "BitNet's transformer overwrote x with the attention output and then wrote x = x + x, so "
    "the residual path was gone (kyegomez/BitNet#32).",
    "https://github.com/kyegomez/BitNet/issues/32",
)
class ForgetsItsInput(nn.Module):
    """The results replace the stream, so what earlier blocks computed is lost."""

    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x):
        x = self.dropout(self.att(self.norm1(x)))
        return self.dropout(self.ff(self.norm2(x)))


@exhibit(
    "TransformerBlock",
    "residual-of-normed",
    "A GPT re-implementation added the attention output to the normed input instead of the raw "
    "one; its author reported it himself (faster-trajectory-transformer#3).",
    "https://github.com/Howuhh/faster-trajectory-transformer/issues/3",
)
class AddsToTheNormalisedCopy(nn.Module):
    """The results are added to the normalised copy, so the stream itself is thrown away."""

    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x):
        x = self.norm1(x)
        x = x + self.dropout(self.att(x))
        x = self.norm2(x)
        return x + self.dropout(self.ff(x))


@exhibit(
    "TransformerBlock",
    "shared-norm",
    "AI2's OLMo used one LayerNorm for both attention and feed-forward in its sequential block "
    "until an issue pointed it out (OLMo#222).",
    "https://github.com/allenai/OLMo/issues/222",
)
class UsesOneNormTwice(nn.Module):
    """One norm is used twice and the other never, so half of GPT-2's norm weights do nothing."""

    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x):
        x = x + self.dropout(self.att(self.norm1(x)))
        return x + self.dropout(self.ff(self.norm1(x)))


@exhibit(
    "KVCache",
    "cache-position-off-by-one",
    "ONNX Runtime's varlen decoder was off by one the other way: it wrote a column too far "
    "along and left a hole (onnxruntime-genai#2354).",
    "https://github.com/microsoft/onnxruntime-genai/pull/2354",
)
class WritesOverTheLastColumn:
    """New columns start at the last filled one, so each call loses the token before it."""

    def __init__(self, n_layers, max_length):
        self.max_length = max_length
        self.length = 0
        self.layers = [None] * n_layers

    def extend(self, layer, keys, values):
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"{end} tokens do not fit into {self.max_length} columns")
        if self.layers[layer] is None:
            B, H, _, D = keys.shape
            self.layers[layer] = [keys.new_zeros(B, H, self.max_length, D) for _ in range(2)]
        for buffer, new in zip(self.layers[layer], (keys, values), strict=True):
            start = max(self.length - 1, 0)
            buffer[:, :, start : start + new.shape[2]] = new
        if layer == len(self.layers) - 1:
            self.length = end
        return tuple(buffer[:, :, :end] for buffer in self.layers[layer])


@exhibit(
    "KVCache",
    "cache-overwrites",
    "litgpt's sliding-window cache overwrote columns that the prompt still needed, where the "
    "prompt was longer than the window (litgpt#2182).",
    "https://github.com/Lightning-AI/litgpt/issues/2182",
)
class WritesFromTheStart:
    """New columns are written at the front, so the prompt is overwritten token by token."""

    def __init__(self, n_layers, max_length):
        self.max_length = max_length
        self.length = 0
        self.layers = [None] * n_layers

    def extend(self, layer, keys, values):
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"{end} tokens do not fit into {self.max_length} columns")
        if self.layers[layer] is None:
            B, H, _, D = keys.shape
            self.layers[layer] = [keys.new_zeros(B, H, self.max_length, D) for _ in range(2)]
        for buffer, new in zip(self.layers[layer], (keys, values), strict=True):
            buffer[:, :, : new.shape[2]] = new
        if layer == len(self.layers) - 1:
            self.length = end
        return tuple(buffer[:, :, :end] for buffer in self.layers[layer])


@exhibit(
    "KVCache",
    "cache-length-per-layer",
    "In flash-linear-attention layer 0 advanced a counter that all layers share, so later "
    "layers read a wrong length (flash-linear-attention#477).",
    "https://github.com/fla-org/flash-linear-attention/issues/477",
)
class CountsEachLayersTokens:
    """The length grows at every layer, so later layers leave holes and the cache is soon full."""

    def __init__(self, n_layers, max_length):
        self.max_length = max_length
        self.length = 0
        self.layers = [None] * n_layers

    def extend(self, layer, keys, values):
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"{end} tokens do not fit into {self.max_length} columns")
        if self.layers[layer] is None:
            B, H, _, D = keys.shape
            self.layers[layer] = [keys.new_zeros(B, H, self.max_length, D) for _ in range(2)]
        for buffer, new in zip(self.layers[layer], (keys, values), strict=True):
            buffer[:, :, self.length : end] = new
        self.length = end
        return tuple(buffer[:, :, :end] for buffer in self.layers[layer])


@exhibit(
    "KVCache",
    "cache-shared-between-calls",
    "With AutoAWQ's fused layers, a second generate call about dinosaurs drifted into AI, the "
    "subject of the previous prompt (AutoAWQ#170).",
    "https://github.com/casper-hansen/AutoAWQ/issues/170",
)
class SharesColumnsBetweenCaches:
    """All caches keep their columns in one dict, so a new answer starts with an old prompt."""

    layers = {}

    def __init__(self, n_layers, max_length):
        self.n_layers = n_layers
        self.max_length = max_length
        self.length = 0

    def extend(self, layer, keys, values):
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"{end} tokens do not fit into {self.max_length} columns")
        if layer in self.layers:
            old_keys, old_values = self.layers[layer]
            keys = torch.cat([old_keys, keys], dim=2)
            values = torch.cat([old_values, values], dim=2)
        self.layers[layer] = keys, values
        if layer == self.n_layers - 1:
            self.length = end
        return keys, values


@exhibit(
    "KVCache",
    "cache-unfilled-columns",
    "gpt-fast's KVCache.update returns the whole buffer with its unfilled zeros; used without "
    "a mask, attention came out wrong (gpt-fast#233).",
    "https://github.com/meta-pytorch/gpt-fast/issues/233",
)
class ReturnsUnfilledColumns:
    """The whole buffer is returned, so tokens attend to columns that have not been filled yet."""

    def __init__(self, n_layers, max_length):
        self.max_length = max_length
        self.length = 0
        self.layers = [None] * n_layers

    def extend(self, layer, keys, values):
        end = self.length + keys.shape[2]
        if end > self.max_length:
            raise ValueError(f"{end} tokens do not fit into {self.max_length} columns")
        if self.layers[layer] is None:
            B, H, _, D = keys.shape
            self.layers[layer] = [keys.new_zeros(B, H, self.max_length, D) for _ in range(2)]
        for buffer, new in zip(self.layers[layer], (keys, values), strict=True):
            buffer[:, :, self.length : end] = new
        if layer == len(self.layers) - 1:
            self.length = end
        return tuple(self.layers[layer])
