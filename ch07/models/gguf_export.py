"""A model as one GGUF file, the format of llama.cpp and of the programs that are built on it.

GGUF holds everything in one file, including tokenizer and chat template. Its weight matrices have
the same orientation as ours (not transposed), with query, key and value joined. Needs the package
`gguf`. Source of names and keys: llama.cpp, `convert_hf_to_gguf.py` (GPT2Model) and gguf-py's
constants.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ch07.data.byte_pair_vocabulary import Vocabulary, gpt2_vocabulary
from ch07.data.tokenizer_files import MARK_TYPE
from ch07.models.architectures import BaseModel, ModelConfig
from ch07.models.gguf_numbers import BLOCK_SIZE
from ch07.models.gguf_weights import gguf_name, heads_of_rotated, pair_neighbours
from ch07.models.hf_files import LAYER_NORM_EPSILON, chat_template, check_vocabulary
from ch07.models.llama import LlamaConfig
from ch07.models.parameter_names import renames, to_published
from ch07.models.quantization import check_range
from ch07.utils.dependencies import import_optional
from ch07.utils.errors import InputError
from ch07.utils.publication import atomic_write
from instruction_dataset import PromptStyle

GGUF_NAMES = {  # by published name
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
FORMATS = {"f32": 0, "f16": 1, "q8_0": 7}  # and llama.cpp's number for a file of this type
# The largest weight that a format holds. The scale of a block of q8_0 is a float16, and a 127th of
# its largest weight.
LARGEST = {"F32": math.inf, "F16": 65504.0, "Q8_0": 127 * 65504.0}
ALWAYS_FLOAT32 = ("position_embd.weight",)  # in every format, as llama.cpp's converter does
NORMAL_TOKEN = 1  # GGUF's types of tokens


def import_gguf() -> Any:
    """The package `gguf`; MissingPackage says how to install it."""
    return import_optional("gguf", "writing GGUF", "gguf==0.19.0")


def write_gguf(
    model: BaseModel,
    path: str | Path,
    style: PromptStyle,
    *,
    name: str,
    number_format: str = "f32",
    conversations: bool = False,
    vocabulary: Vocabulary | None = None,
) -> None:
    """Write the model with its tokenizer and chat template; vectors stay float32.

    `name` is the model's name in the file, `number_format` "f32", "f16" or "q8_0" (else
    ValueError); `conversations` is that of `chat_template`, `vocabulary` that of the tokenizer, if
    it isn't GPT-2's. Matrices whose rows can't be divided
    into blocks of 32 are stored as f16 in q8_0.
    """
    if number_format not in FORMATS:
        raise InputError(f"no format {number_format!r}; choose one of {', '.join(FORMATS)}")
    check_vocabulary(model.config, vocabulary)
    gguf = import_gguf()
    with atomic_write(path) as temporary:
        kind = "llama" if isinstance(model.config, LlamaConfig) else "gpt2"
        writer = gguf.GGUFWriter(temporary, kind)
        try:
            writer.add_name(name)
            _add_shape(writer, model.config)
            writer.add_file_type(FORMATS[number_format])
            if number_format == "q8_0":
                writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            _add_tokenizer(writer, gpt2_vocabulary() if vocabulary is None else vocabulary)
            writer.add_chat_template(chat_template(style, conversations, mark_answers=False))
            for stored_name, tensor in named_tensors(model):
                tensor_format = _tensor_format(stored_name, tensor, number_format)
                remedy = f"too large for {tensor_format}: use --gguf f32"
                check_range(stored_name, tensor, LARGEST[tensor_format], remedy)
                raw_dtype = gguf.GGMLQuantizationType[tensor_format]
                stored = gguf.quants.quantize(tensor.float().numpy(), raw_dtype)
                writer.add_tensor(stored_name, stored, raw_dtype=raw_dtype)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _tensor_format(gguf_name: str, tensor: torch.Tensor, number_format: str) -> str:
    """The format of one tensor in a file of `number_format`, as GGUF names it.

    >>> _tensor_format("output.weight", torch.ones(2, 64), "q8_0")
    'Q8_0'
    """
    if tensor.ndim == 1 or gguf_name in ALWAYS_FLOAT32:
        return "F32"
    if number_format == "q8_0" and tensor.shape[1] % BLOCK_SIZE:
        return "F16"
    return number_format.upper()


def named_tensors(model: BaseModel) -> Iterator[tuple[str, torch.Tensor]]:
    """(GGUF name, tensor) for every weight; a tied output head is left out."""
    state = {name: tensor.detach().cpu() for name, tensor in model.named_parameters()}
    config = model.config
    if isinstance(config, LlamaConfig):
        for name, tensor in to_published(state, config).items():
            n_heads = heads_of_rotated(name, config)
            yield gguf_name(name), tensor if n_heads is None else pair_neighbours(tensor, n_heads)
        return
    for row in renames(config):
        parts = [state[name] for name in row.ours if name in state]
        if parts:
            yield _gpt2_gguf_name(row.published), torch.cat(parts)
        elif not config.qkv_bias:  # GPT-2 has these biases: 0 changes nothing
            yield _gpt2_gguf_name(row.published), torch.zeros(3 * config.emb_dim)


def _gpt2_gguf_name(published: str) -> str:
    """The GGUF name of a published tensor.

    >>> _gpt2_gguf_name("h.3.attn.c_attn.weight"), _gpt2_gguf_name("wte.weight")
    ('blk.3.attn_qkv.weight', 'token_embd.weight')
    """
    module, kind = published.rsplit(".", 1)
    if not module.startswith("h."):
        return f"{GGUF_NAMES[module]}.{kind}"
    _, block, inner = module.split(".", 2)
    return f"blk.{block}.{GGUF_NAMES[inner]}.{kind}"


def _add_shape(writer: Any, config: ModelConfig) -> None:
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.emb_dim)
    writer.add_block_count(config.n_layers)
    writer.add_head_count(config.n_heads)
    if isinstance(config, LlamaConfig):
        writer.add_feed_forward_length(config.hidden_dim)
        writer.add_head_count_kv(config.n_kv_heads)
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_dimension_count(config.head_size)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_vocab_size(config.vocab_size)
    else:
        writer.add_feed_forward_length(4 * config.emb_dim)
        writer.add_layer_norm_eps(LAYER_NORM_EPSILON)


def _add_tokenizer(writer: Any, vocabulary: Vocabulary) -> None:
    types = [
        MARK_TYPE if token in vocabulary.marks else NORMAL_TOKEN for token in vocabulary.tokens
    ]
    end_id = vocabulary.marks[vocabulary.end]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.words)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(types)
    writer.add_token_merges(list(vocabulary.merges))
    writer.add_bos_token_id(end_id)
    writer.add_eos_token_id(end_id)
    writer.add_pad_token_id(end_id)
    writer.add_add_bos_token(False)
