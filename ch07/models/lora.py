"""LoRA: beside each frozen weight matrix a small correction, which is all that is trained.

The one idea: fine-tuning changes a matrix W by something of low rank, so the change can be written
as B A, two thin matrices: y = W x + b + (alpha / R) B A x. B starts at 0, so the first answers are
the frozen model's own; afterwards W + (alpha / R) B A is one matrix again, and costs nothing.

Axes: R rank. Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section
4.1; first values and names as in Microsoft's `loralib`.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from gpt_model import GPTModel

TARGETS = (  # every matrix of a block
    "att.W_query", "att.W_key", "att.W_value", "att.out_proj", "ff.layers.0", "ff.layers.2"
)  # fmt: skip


class LoRALinear(nn.Linear):
    """A linear layer that stands still, and its correction: A (R, in) and B (out, R).

    Weight and bias are those of `linear`, not copies. `generator` draws A.
    """

    def __init__(self, linear, rank, alpha, drop_rate=0.0, generator=None):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        self.drop = nn.Dropout(drop_rate)
        # U(-1/sqrt(in), 1/sqrt(in)), as nn.Linear draws its own weight
        bound = linear.in_features**-0.5
        first = linear.weight.new_empty(rank, linear.in_features)
        self.lora_A = nn.Parameter(first.uniform_(-bound, bound, generator=generator))
        self.lora_B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, x):
        return super().forward(x) + self.scale * F.linear(
            F.linear(self.drop(x), self.lora_A), self.lora_B
        )

    @torch.no_grad()
    def merged_weight(self):
        """W + (alpha / R) B A, a new tensor (out, in)."""
        return self.weight + self.scale * self.lora_B @ self.lora_A


def add_lora(model, rank, alpha, drop_rate=0.0, targets=TARGETS, generator=None):
    """Freeze a `GPTModel`, and put a `LoRALinear` in the place of each layer named in `targets`.

    Names are ends of ours, as "att.W_query" or "out_head". Returns the model, which is changed.
    ValueError for a rank below 1, and for a target that no layer has.
    """
    if type(rank) is not int or rank < 1:
        raise ValueError(f"the rank is {rank!r}, but must be an int, 1 or more")
    if lora_layers(model):
        raise ValueError("the model has LoRA already: merge it first")
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    chosen = {}
    for target in targets:
        names = [name for name in linears if f".{name}".endswith(f".{target}")]
        if not names:
            raise ValueError(f"no linear layer of this model is called {target!r}")
        chosen |= {name: linears[name] for name in names}
    how = rank, alpha, drop_rate, generator
    return put_layers(model, {name: LoRALinear(old, *how) for name, old in chosen.items()})


def put_layers(model, layers):
    """Freeze a model, and put each of these {name: `LoRALinear`} in its place; the model."""
    model.requires_grad_(False)
    for name, layer in layers.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer)
    return model


def lora_layers(model):
    """{name: `LoRALinear`} of a model."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


@torch.no_grad()
def unmerged(model):
    """Take each correction out of the weight beside it, where it is inside already; the model."""
    for layer in lora_layers(model).values():
        layer.weight -= layer.scale * layer.lora_B @ layer.lora_A
    return model


def merged(model):
    """A plain `GPTModel` with the corrections inside its weights; the given model stays as it is.

    What has no correction is shared with it. A corrected output head is no longer the embedding.
    """
    layers = lora_layers(model)
    tied = model.config.tied_head and "out_head" not in layers
    with torch.device("meta"):
        plain = GPTModel(replace(model.config, tied_head=tied))
    state = {name: p for name, p in model.state_dict().items() if ".lora_" not in name}
    state |= {f"{name}.weight": layer.merged_weight() for name, layer in layers.items()}
    plain.load_state_dict(state, assign=True)
    if tied:
        plain.out_head.weight = plain.tok_emb.weight
    return plain.train(model.training)
