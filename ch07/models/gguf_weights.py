"""Llama's weights in a GGUF file: their names there, and the order of rotated pairs.

The one idea: rotary positions rotate pairs of numbers, and there are two ways to say which two
numbers are a pair. The published weights of today pair the two halves of a head (number i with
i + D/2); llama.cpp pairs neighbours (2i with 2i + 1), as the paper does. Which one it is only
depends on the order of the rows of the query and key matrices, so a GGUF file holds these rows in
another order. Whoever forgets to put them back gets a model that writes nonsense.

    halves      0 1 2 3 | 4 5 6 7        pairs (0 4) (1 5) (2 6) (3 7)
    neighbours  0 4 | 1 5 | 2 6 | 3 7    the same pairs, side by side

Source: llama.cpp, `convert_hf_to_gguf.py` (LlamaModel.permute) and gguf-py's constants.
"""

import re
from collections.abc import Iterator, Sequence

from torch import Tensor

from ch07.models.gguf_file import GGUFFile
from ch07.models.llama import LlamaConfig
from ch07.models.weight_reader import StoredWeights

LLAMA_GGUF_NAMES = {  # by published name, without the number of the block
    "model.embed_tokens": "token_embd",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_PUBLISHED_NAMES = {stored: published for published, stored in LLAMA_GGUF_NAMES.items()}


def pair_neighbours(weight: Tensor, n_heads: int) -> Tensor:
    """The rows of a query or key matrix (heads * D, C): pairs of halves -> pairs of neighbours.

    >>> import torch
    >>> pair_neighbours(torch.arange(8)[:, None], n_heads=1)[:, 0].tolist()
    [0, 4, 1, 5, 2, 6, 3, 7]
    """
    return weight.view(n_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def pair_halves(weight: Tensor, n_heads: int) -> Tensor:
    """The rows of a query or key matrix (heads * D, C): pairs of neighbours -> pairs of halves.

    >>> import torch
    >>> pair_halves(torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])[:, None], n_heads=1)[:, 0].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    return weight.view(n_heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def heads_of_rotated(published: str, config: LlamaConfig) -> int | None:
    """How many rotated heads this matrix computes; None if its output isn't rotated."""
    if published.endswith(".q_proj.weight"):
        return config.n_heads
    if published.endswith(".k_proj.weight"):
        return config.n_kv_heads
    return None


def published_name(gguf_name: str) -> str:
    """The published name of a tensor; a name that is not known stays as it is.

    >>> published_name("blk.3.attn_q.weight"), published_name("output_norm.weight")
    ('model.layers.3.self_attn.q_proj.weight', 'model.norm.weight')
    """
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", gguf_name)
    if match is None or match[2] not in _PUBLISHED_NAMES:
        return gguf_name
    block = "" if match[1] is None else f"model.layers.{match[1]}."
    return f"{block}{_PUBLISHED_NAMES[match[2]]}.weight"


def gguf_name(published: str) -> str:
    """The name in a GGUF file of a published tensor.

    >>> gguf_name("model.layers.3.self_attn.q_proj.weight"), gguf_name("model.norm.weight")
    ('blk.3.attn_q.weight', 'output_norm.weight')
    """
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", published)
    if match is None:
        return f"{LLAMA_GGUF_NAMES[published.removesuffix('.weight')]}.weight"
    return f"blk.{match[1]}.{LLAMA_GGUF_NAMES[match[2]]}.weight"


def llama_weights(file: GGUFFile, config: LlamaConfig) -> StoredWeights:
    """The tensors of a GGUF file under their published names, with halves as pairs."""
    stored = file.weights()
    stored_name = {published_name(name): name for name in stored.shapes}

    def read(names: Sequence[str]) -> Iterator[Tensor]:
        tensors = stored.read([stored_name[name] for name in names])
        for name, tensor in zip(names, tensors, strict=True):
            n_heads = heads_of_rotated(name, config)
            yield tensor if n_heads is None else pair_halves(tensor, n_heads)

    shapes = {name: stored.shapes[stored_name[name]] for name in stored_name}
    return StoredWeights(file.path, stored.files, shapes, read)
