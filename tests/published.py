"""Weights as OpenAI's are published, made of random numbers: the exact layout, at any size."""

import json
import math
import struct

import torch

from gpt_model import GPTConfig

SMALL = {"vocab_size": 1011, "context_length": 48, "emb_dim": 32, "n_heads": 4, "n_layers": 2}


def published_shapes(config, masks=True):
    """Names and shapes as they stand in the published file, masks of the attention included."""
    C, T = config.emb_dim, config.context_length
    shapes = {}
    for i in range(config.n_layers):
        block = {"attn.bias": (1, 1, T, T)} if masks else {}
        block |= {"attn.c_attn.bias": (3 * C,), "attn.c_attn.weight": (C, 3 * C)}
        block |= {"attn.c_proj.bias": (C,), "attn.c_proj.weight": (C, C)}
        block |= {"ln_1.bias": (C,), "ln_1.weight": (C,), "ln_2.bias": (C,), "ln_2.weight": (C,)}
        block |= {"mlp.c_fc.bias": (4 * C,), "mlp.c_fc.weight": (C, 4 * C)}
        block |= {"mlp.c_proj.bias": (C,), "mlp.c_proj.weight": (4 * C, C)}
        shapes |= {f"h.{i}.{name}": shape for name, shape in block.items()}
    shapes |= {"ln_f.bias": (C,), "ln_f.weight": (C,)}
    return shapes | {"wpe.weight": (T, C), "wte.weight": (config.vocab_size, C)}


def header_of(shapes):
    """The safetensors header, without the padding that today's writers add, and the data's size."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(shapes):
        size = 4 * math.prod(shapes[name])
        header[name] = {
            "dtype": "F32",
            "shape": list(shapes[name]),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text, offset


def random_tensors(shapes, seed=0):
    """Numbers large enough that every tensor matters; norms around 1, masks as they are stored."""
    stream = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        tensors[name] = 0.2 * torch.randn(shape, generator=stream)
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            tensors[name] += 1
        if name.endswith(".attn.bias"):
            tensors[name] = torch.ones(shape).tril()
    return tensors


def write_published(path, config, seed=0, masks=True):
    """A file in the published layout; returns its tensors."""
    config = config if isinstance(config, GPTConfig) else GPTConfig(**config)
    shapes = published_shapes(config, masks)
    tensors = random_tensors(shapes, seed)
    header, _ = header_of(shapes)
    with open(path, "wb") as file:
        file.write(header)
        for name in sorted(tensors):
            file.write(tensors[name].numpy().tobytes())
    return tensors


def write_hollow(path, config):
    """The same with zeros that take no place on the disk: for sizes that only memory tests need."""
    header, size = header_of(published_shapes(config))
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    return size


def hf_config(config, **changes):
    """config.json as transformers writes it, as far as it matters."""
    config = config if isinstance(config, GPTConfig) else GPTConfig(**config)
    return {
        "model_type": "gpt2",
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "n_positions": config.context_length,
        "vocab_size": config.vocab_size,
        **changes,
    }
