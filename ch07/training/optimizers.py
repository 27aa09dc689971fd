"""Which optimizer a run gets: AdamW, or Muon for the matrices of a model that starts from nothing.

The one idea: AdamW scales each weight by itself; Muon looks at a weight matrix as a whole and makes
every direction of its update equally long (Jordan et al. 2024, "Muon: An optimizer for hidden
layers in neural networks"). From random weights that needs far fewer steps; for fine-tuning
weights that AdamW has trained, AdamW it stays. Both are PyTorch's own.
"""

import torch

from train_loop import make_optimizer

OPTIMIZERS = ("adamw", "muon")


class Together:
    """Several optimizers that step as one."""

    def __init__(self, *parts):
        self.parts = parts

    @property
    def param_groups(self):
        return [group for part in self.parts for group in part.param_groups]

    def step(self):
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none=True):
        for part in self.parts:
            part.zero_grad(set_to_none)


def choose_optimizer(name, model, lr, weight_decay):
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest."""
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    if name == "adamw":
        return make_optimizer(model.parameters(), lr, weight_decay)
    matrices = [p for p in model.trf_blocks.parameters() if p.ndim == 2 and p.requires_grad]
    chosen = set(map(id, matrices))
    rest = (p for p in model.parameters() if id(p) not in chosen)
    # "match_rms_adamw": updates as large as AdamW's, so that one learning rate serves both
    muon = torch.optim.Muon(
        matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return Together(make_optimizer(rest, lr, weight_decay), muon)
