"""A model as one GGUF file, which llama.cpp and what is built on it read.

The one idea: GGUF holds everything in one file, tokenizer and chat template included. Its weights
lie as ours do (not transposed), with query, key and value joined. Needs the package `gguf`.
Source of names and keys: llama.cpp, `convert_hf_to_gguf.py` (GPT2Model) and gguf-py's constants.
"""

import json

import torch

from ch07.data.tokenizer import merges_of, vocabulary_files
from ch07.models.hf_files import END, chat_template
from ch07.models.parameter_names import renames
from ch07.utils.atomic_files import atomic_write
from ch07.utils.dependencies import import_optional
from collate import END_OF_TEXT

# published name -> GGUF's
NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "lm_head": "output",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
FORMATS = {"f32": (torch.float32, 0), "f16": (torch.float16, 1)}  # and llama.cpp's number for it
KEPT_FLOAT32 = ("position_embd.weight",)  # whatever the format, as llama.cpp's converter does
NORMAL = 1
CONTROL = 3  # kinds of tokens


def import_gguf():
    """The package's writer; MissingPackage says how to get it."""
    return import_optional("gguf", "writing GGUF", "gguf==0.19.0").GGUFWriter


def write_gguf(model, path, style, name, number_format="f32"):
    """Write the model with its tokenizer and chat template; vectors stay float32."""
    if number_format not in FORMATS:
        raise ValueError(f"no format {number_format!r}; choose one of {', '.join(FORMATS)}")
    dtype, file_type = FORMATS[number_format]
    with atomic_write(path) as new:
        writer = import_gguf()(new, "gpt2")
        try:
            _add_shape(writer, model.config, name)
            writer.add_file_type(file_type)
            _add_tokenizer(writer)
            writer.add_chat_template(chat_template(style))
            for gguf_name, tensor in tensors(model):
                small = tensor.ndim == 1 or gguf_name in KEPT_FLOAT32
                writer.add_tensor(gguf_name, tensor.to(torch.float32 if small else dtype).numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def tensors(model):
    """(GGUF name, tensor) for every weight; a tied head is none of its own."""
    state = {name: tensor.detach().cpu() for name, tensor in model.named_parameters()}
    for row in renames(model.config):
        parts = [state[name] for name in row.ours if name in state]
        if parts:
            yield _gguf_name(row.published), torch.cat(parts)
        elif not model.config.qkv_bias:  # GPT-2 has these biases: 0 changes nothing
            yield _gguf_name(row.published), torch.zeros(3 * model.config.emb_dim)


def _gguf_name(published):
    """
    >>> _gguf_name("h.3.attn.c_attn.weight"), _gguf_name("wte.weight")
    ('blk.3.attn_qkv.weight', 'token_embd.weight')
    """
    place, kind = published.rsplit(".", 1)
    if not place.startswith("h."):
        return f"{NAMES[place]}.{kind}"
    _, number, inner = place.split(".", 2)
    return f"blk.{number}.{NAMES[inner]}.{kind}"


def _add_shape(writer, config, name):
    writer.add_name(name)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.emb_dim)
    writer.add_feed_forward_length(4 * config.emb_dim)
    writer.add_block_count(config.n_layers)
    writer.add_head_count(config.n_heads)
    writer.add_layer_norm_eps(1e-5)


def _add_tokenizer(writer):
    files = vocabulary_files()
    ids = json.loads(files["vocab.json"])
    tokens = sorted(ids, key=ids.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token == END else NORMAL for token in tokens])
    writer.add_token_merges(merges_of(files))
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(END_OF_TEXT)
    writer.add_add_bos_token(False)
