"""GPT-2's weights under other names: one table between this project and `transformers`.

The one idea: the tensors are the same, only their names differ, and three habits of the published
checkpoints: linear weights are stored transposed (`Conv1D`), query, key and value stand side by
side in one tensor, and a tied head isn't stored at all.
"""

import torch

# ours -> published; {} is the number of the block
NAMES = {
    "tok_emb.weight": "wte.weight",
    "pos_emb.weight": "wpe.weight",
    "final_norm.weight": "ln_f.weight",
    "final_norm.bias": "ln_f.bias",
    "trf_blocks.{}.norm1.weight": "h.{}.ln_1.weight",
    "trf_blocks.{}.norm1.bias": "h.{}.ln_1.bias",
    "trf_blocks.{}.att.out_proj.weight": "h.{}.attn.c_proj.weight",
    "trf_blocks.{}.att.out_proj.bias": "h.{}.attn.c_proj.bias",
    "trf_blocks.{}.norm2.weight": "h.{}.ln_2.weight",
    "trf_blocks.{}.norm2.bias": "h.{}.ln_2.bias",
    "trf_blocks.{}.ff.layers.0.weight": "h.{}.mlp.c_fc.weight",
    "trf_blocks.{}.ff.layers.0.bias": "h.{}.mlp.c_fc.bias",
    "trf_blocks.{}.ff.layers.2.weight": "h.{}.mlp.c_proj.weight",
    "trf_blocks.{}.ff.layers.2.bias": "h.{}.mlp.c_proj.bias",
}
QKV = ("W_query", "W_key", "W_value")  # in the order of c_attn's thirds
TRANSPOSED = ("c_proj.weight", "c_fc.weight", "c_attn.weight")


def to_published(state, n_layers):
    """Our state dict -> one with the names and layout of `GPT2Model` (no head: it is tied)."""
    result = {theirs: _turned(theirs, state[ours]) for ours, theirs in _table(n_layers)}
    for i in range(n_layers):
        for kind in ("weight", "bias"):
            parts = [state[f"trf_blocks.{i}.att.{name}.{kind}"] for name in QKV]
            name = f"h.{i}.attn.c_attn.{kind}"
            result[name] = _turned(name, torch.cat(parts))
    return result


def from_published(state, n_layers):
    """A state dict of `GPT2Model` -> ours, the tied head included."""
    result = {ours: _turned(theirs, state[theirs]) for ours, theirs in _table(n_layers)}
    for i in range(n_layers):
        for kind in ("weight", "bias"):
            name = f"h.{i}.attn.c_attn.{kind}"
            thirds = _turned(name, state[name]).chunk(3, dim=0)
            for ours, third in zip(QKV, thirds, strict=True):
                result[f"trf_blocks.{i}.att.{ours}.{kind}"] = third
    result["out_head.weight"] = result["tok_emb.weight"]
    return result


def _table(n_layers):
    """(ours, theirs) for every tensor but query, key and value."""
    for ours, theirs in NAMES.items():
        for i in range(n_layers) if "{}" in ours else [0]:
            yield ours.format(i), theirs.format(i)


def _turned(published_name, tensor):
    return tensor.T.contiguous() if published_name.endswith(TRANSPOSED) else tensor
