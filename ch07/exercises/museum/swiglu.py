"""Exhibits on feed-forward with a gate: three matrices, one function, many ways to join them."""

import torch.nn.functional as F
from torch import nn

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "SwiGLU",
    "activation-on-up",
    "mlx-lm swapped the arguments of its swiglu in one place and forgot a caller, which then "
    "computed silu(x) * gate (mlx-lm#767).",
    "https://github.com/ml-explore/mlx-lm/pull/767",
)
class ActivatesUp(nn.Module):
    """The two matrices have changed roles, so a trained model's gate no longer gates."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(self.gate(x) * F.silu(self.up(x)))


@exhibit(
    "SwiGLU",
    "activation-after-product",
    "MatFormer's layers applied the activation function to the product of gate and up "
    "(matformer#4).",
    "https://github.com/devvrit/matformer/pull/4",
)
class ActivatesTheProduct(nn.Module):
    """The function comes after the product, so almost all that is negative is lost."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x) * self.up(x)))


@exhibit(
    "SwiGLU",
    "activation-on-both",
    "lalamo put a second activation function in on purpose, to see whether its tests notice; they "
    "did (lalamo#270).",
    "https://github.com/trymirai/lalamo/pull/270",
)
class ActivatesBoth(nn.Module):
    """Both branches go through silu, so `up` loses almost all that is negative."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * F.silu(self.up(x)))


@exhibit(
    "SwiGLU",
    "gelu-not-silu",
    "candle had it the other way round: silu in Gemma 3, which was trained with GELU, and the "
    "answers were only a little worse (candle#3745).",
    "https://github.com/huggingface/candle/issues/3745",
)
class GatesWithGELU(nn.Module):
    """GELU looks so much like silu that nothing breaks, and every layer is slightly wrong."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(F.gelu(self.gate(x)) * self.up(x))


@exhibit(
    "SwiGLU",
    "sigmoid-not-silu",
    "Marin tried a sigmoid in the place of silu on purpose: the loss was higher at both sizes "
    "(marin#5934).",
    "https://github.com/marin-community/marin/issues/5934",
)
class GatesWithASigmoid(nn.Module):
    """The gate is a sigmoid, as in the first gated layers, and not silu, as in training."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(F.sigmoid(self.gate(x)) * self.up(x))


@exhibit(
    "SwiGLU",
    "sum-not-product",
    "A library of recurrent networks added two gates of its LSTM that should be multiplied "
    "(torchrecurrent#22).",
    "https://github.com/MartinuzziFrancesco/torchrecurrent/issues/22",
)
class AddsTheGate(nn.Module):
    """The gate is added, so it can no longer shut anything off."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) + self.up(x))


@exhibit(
    "SwiGLU",
    "no-gate",
    "TimesFM took silu for swiglu: the setting gave a plain layer, without a gate (timesfm#493).",
    "https://github.com/google-research/timesfm/issues/493",
)
class HasNoGate(nn.Module):
    """One of the three matrices is never used, so its weights are loaded for nothing."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.up(x)))


@exhibit(
    "SwiGLU",
    "down-missing",
    "A package of gated layers made a dense layer for its SwiGLU and never called it (GLU#2).",
    "https://github.com/Rishit-dagli/GLU/issues/2",
)
class NeverGoesDown(nn.Module):
    """The last matrix is not used, so a token leaves with more numbers than it came with."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        return F.silu(self.gate(x)) * self.up(x)


@exhibit(
    "SwiGLU",
    "biases",
    "The author of Tricycle took the missing bias for a mistake and added one; the paper and Llama "
    "leave it out (Tricycle#19).",
    "https://github.com/bclarkson-code/Tricycle/issues/19",
)
class HasBiases(nn.Module):
    """nn.Linear has a bias unless told otherwise, and none of the published weights fit it."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))
