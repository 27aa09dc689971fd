"""Which optimizer a run gets: AdamW, or Muon for the matrices of a model that starts at random.

The one idea: AdamW scales each weight separately; Muon looks at a weight matrix as a whole and
makes all directions of its update equally long (Jordan et al. 2024, "Muon: An optimizer for hidden
layers in neural networks"). From random weights that needs far fewer steps; weights that AdamW has
pretrained are fine-tuned with AdamW. AdamW is PyTorch's own; Muon is in `ch07.training.muon`.
"""

from typing import Any

import torch
from torch import nn

from ch07.training.muon import Muon
from ch07.utils.errors import InputError
from train_loop import make_optimizer

OPTIMIZERS = ("adamw", "muon")
BETA1 = 0.9  # of AdamW, in every run


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers that step as one. All state is theirs, so it is not initialized itself."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all parts. Asked anew: `load_state_dict` gives a part new ones."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:  # type: ignore[override]  # no part here needs a closure
        """One update by each part."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parts."""
        for part in self.parts:
            part.zero_grad(set_to_none)


def choose_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    weight_decay: float,
    dtype: str = "float32",
    beta2: float = 0.95,
) -> torch.optim.Optimizer:
    """ "adamw": AdamW for everything; "muon": Muon for the blocks' matrices, AdamW for the rest.

    `dtype` is the number format in which Muon iterates, `beta2` is AdamW's. ValueError for
    any other name.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"no optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    betas = (BETA1, float(beta2))  # a stored 0.0 may have come back as 0
    if name == "adamw":
        return make_optimizer(model.parameters(), lr, weight_decay, betas)
    blocks = model.get_submodule("trf_blocks")
    matrices = [p for p in blocks.parameters() if p.ndim == 2 and p.requires_grad]
    chosen = set(matrices)
    rest = [p for p in model.parameters() if p not in chosen]
    muon = Muon(matrices, lr, weight_decay, dtype)
    return CombinedOptimizer(make_optimizer(rest, lr, weight_decay, betas), muon)
