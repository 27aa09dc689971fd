"""Exhibits on the root mean square norm: of what, over what, and in how many bits."""

import torch
from torch import nn

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "RMSNorm",
    "mean-subtracted",
    "A reader of QServe found that its kernel for RMS norm calls that of the layer norm, only "
    "without a bias (omniserve#32).",
    "https://github.com/mit-han-lab/omniserve/issues/32",
)
class SubtractsTheMean(nn.Module):
    """The mean is subtracted first, so Llama's weights meet other numbers than in training."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        wide = wide - wide.mean(dim=-1, keepdim=True)
        mean_square = wide.square().mean(dim=-1, keepdim=True)
        return (wide * torch.rsqrt(mean_square + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "variance-not-mean-square",
    "timm's RmsNorm took torch.var of x, which subtracts the mean, until a reader compared it "
    "with PyTorch's own (pytorch-image-models#2380).",
    "https://github.com/huggingface/pytorch-image-models/issues/2380",
)
class DividesByTheStandardDeviation(nn.Module):
    """A variance is taken around the mean, so a row that is far from 0 comes out too large."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        variance = wide.var(dim=-1, keepdim=True)
        return (wide * torch.rsqrt(variance + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "wrong-axis",
    "A Llama written for learners took one root mean square over all tokens of a row together "
    "(llama-from-scratch#4).",
    "https://github.com/bkitano/llama-from-scratch/issues/4",
)
class NormalisesWholeRows(nn.Module):
    """All tokens of a row are divided by one number, so early tokens depend on later ones."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        mean_square = wide.square().mean(dim=(-2, -1), keepdim=True)
        return (wide * torch.rsqrt(mean_square + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "norm-not-mean",
    "A reader of x-transformers took its factor sqrt(dim) for a mistake; without it, a row has "
    "length 1 (x-transformers#24).",
    "https://github.com/lucidrains/x-transformers/issues/24",
)
class DividesByTheLength(nn.Module):
    """A sum stands where the mean should be, so numbers are too small by the root of C."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        sum_of_squares = wide.square().sum(dim=-1, keepdim=True)
        return (wide * torch.rsqrt(sum_of_squares + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "eps-outside-root",
    "OLMo added eps to the root mean square, where Llama adds it to the mean square (OLMo#281).",
    "https://github.com/allenai/OLMo/issues/281",
)
class AddsEpsAfterTheRoot(nn.Module):
    """eps is added after the root and not under it, so small numbers are divided by too little."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        root = wide.square().mean(dim=-1, keepdim=True).sqrt()
        return (wide / (root + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "no-eps",
    "Tenstorrent's rms_norm divided a scalar by its absolute value and never read eps, so that 0 "
    "became NaN (tt-metal#55347).",
    "https://github.com/tenstorrent/tt-metal/issues/55347",
)
class ForgetsEps(nn.Module):
    """A row of zeros is divided by zero, and the NaN spreads through the model."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        root = wide.square().mean(dim=-1, keepdim=True).sqrt()
        return (wide / root).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "divided-by-rsqrt",
    "A reader of Raschka's Llama notebook asked whether the product with torch.rsqrt should be a "
    "quotient; there it was right (LLMs-from-scratch#871).",
    "https://github.com/rasbt/LLMs-from-scratch/issues/871",
)
class DividesByTheReciprocal(nn.Module):
    """rsqrt is the reciprocal already, so dividing by it makes large numbers larger still."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        mean_square = wide.square().mean(dim=-1, keepdim=True)
        return (wide / torch.rsqrt(mean_square + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "squares-in-16-bits",
    "MiniMind converted x to float32 in one factor and forgot it in the other, the one with the "
    "squares (minimind#301).",
    "https://github.com/jingyaogong/minimind/issues/301",
)
class SquaresIn16Bits(nn.Module):
    """A float16 square above 65,504 is infinite, so a row with one large number becomes 0."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return (x.float() * torch.rsqrt(mean_square + self.eps)).to(x.dtype) * self.weight


@exhibit(
    "RMSNorm",
    "weight-forgotten",
    "A reviewer of llm.c's RMS norm found by it that his own had left the weight out, there in the "
    "backward pass (llm.c#763).",
    "https://github.com/karpathy/llm.c/pull/763",
)
class IgnoresItsWeight(nn.Module):
    """The weight is there but not used, so it never learns and loading it changes nothing."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.float()
        mean_square = wide.square().mean(dim=-1, keepdim=True)
        return (wide * torch.rsqrt(mean_square + self.eps)).to(x.dtype)
