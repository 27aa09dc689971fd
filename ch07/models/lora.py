"""LoRA: beside each frozen weight matrix a small correction, which is all that is trained.

Fine-tuning changes a matrix W by something of low rank, so the change can be written as B A, two
thin matrices: y = W x + b + (alpha / R) B A x. B starts at 0, so that training starts from exactly
the frozen model. Afterwards W + (alpha / R) B A can be merged into one matrix, which costs nothing
more when the model is used.

Axes: R rank. Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section
4.1; initial values and names as in Microsoft's `loralib`.

In Raschka's appendix E, `LoRALayer` stores the transposes, A (in, R) and B (R, out), and
`LinearWithLoRA` adds it to a layer: together `LoRALinear`. `replace_linear_with_lora` replaces
every linear layer, also the output head: `add_lora`, with "out_head" among its targets. Where his
multiplier is alpha alone, alpha here is his times R.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ch07.models.architectures import BaseModel
from ch07.models.empty_model import empty_model
from ch07.utils.errors import InputError


class LoRALinear(nn.Linear):
    """A frozen linear layer and its correction: A (R, in) and B (out, R).

    Weight and bias are those of `linear`, not copies. `generator` draws the initial A.
    """

    def __init__(
        self,
        linear: nn.Linear,
        rank: int,
        alpha: float,
        *,
        drop_rate: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        nn.Module.__init__(self)  # not nn.Linear's own, which would allocate a second weight
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = linear.weight
        self.bias = linear.bias
        self.scale = alpha / rank
        self.drop = nn.Dropout(drop_rate)
        # U(-1/sqrt(in), 1/sqrt(in)), the initial values of nn.Linear's own weight
        bound = linear.in_features**-0.5
        initial = linear.weight.new_empty(rank, linear.in_features)
        self.lora_A = nn.Parameter(initial.uniform_(-bound, bound, generator=generator))
        self.lora_B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        frozen = super().forward(x)
        low_rank = F.linear(self.drop(x), self.lora_A)  # (..., in) -> (..., R)
        return frozen + self.scale * F.linear(low_rank, self.lora_B)

    @torch.no_grad()
    def merged_weight(self) -> torch.Tensor:
        """W + (alpha / R) B A, a new tensor (out, in)."""
        return self.weight + self.scale * self.lora_B @ self.lora_A


def add_lora(
    model: BaseModel,
    rank: int,
    alpha: float,
    *,
    drop_rate: float = 0.0,
    targets: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
) -> BaseModel:
    """Freeze `model` in place, replace each layer named in `targets` by a `LoRALinear`, return it.

    A target is the end of a layer's name, such as "att.W_query" or "out_head"; None stands for
    every matrix of a block. ValueError for a rank below 1, for a target that no layer matches, and
    for a model that has LoRA already.
    """
    if type(rank) is not int or rank < 1:
        raise InputError(f"the rank is {rank!r}, but must be an int, 1 or more")
    if lora_layers(model):
        raise InputError("the model has LoRA already: merge it first")
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    chosen: dict[str, nn.Linear] = {}
    for target in block_matrices(model) if targets is None else targets:
        names = [name for name in linears if f".{name}".endswith(f".{target}")]
        if not names:
            raise InputError(f"no linear layer of this model is called {target!r}")
        chosen |= {name: linears[name] for name in names}
    layers = {
        name: LoRALinear(linear, rank, alpha, drop_rate=drop_rate, generator=generator)
        for name, linear in chosen.items()
    }
    return replace_layers(model, layers)


def block_matrices(model: BaseModel) -> list[str]:
    """The names of the linear layers in a block, such as "att.W_query", in the model's order."""
    modules = model.trf_blocks[0].named_modules()
    return [name for name, module in modules if isinstance(module, nn.Linear)]


def replace_layers(model: BaseModel, layers: Mapping[str, LoRALinear]) -> BaseModel:
    """Freeze a model in place, replace its layers of these names, and return it."""
    model.requires_grad_(False)
    for name, layer in layers.items():
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer)
    return model


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The `LoRALinear` layers of a model, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


@torch.no_grad()
def unmerge(model: BaseModel) -> BaseModel:
    """Subtract each correction in place from the weight that it was merged into; the model.

    For a stored model whose weights are merged and whose adapter was loaded again beside them.
    """
    for layer in lora_layers(model).values():
        layer.weight -= layer.scale * layer.lora_B @ layer.lora_A
    return model


def merge_lora(model: BaseModel) -> BaseModel:
    """A plain model with the corrections merged into its weights; `model` doesn't change.

    Weights without a correction are shared with `model`. An output head with a correction is no
    longer tied to the embedding.
    """
    layers = lora_layers(model)
    tied = model.config.tied_head and "out_head" not in layers
    plain = empty_model(replace(model.config, tied_head=tied))
    state = {name: p for name, p in model.state_dict().items() if ".lora_" not in name}
    state |= {f"{name}.weight": layer.merged_weight() for name, layer in layers.items()}
    plain.load_state_dict(state, assign=True)
    if tied:
        plain.out_head.weight = plain.tok_emb.weight
    return plain.train(model.training)
