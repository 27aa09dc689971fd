"""The small files of a Hugging Face model folder: shape, tokenizer, chat template.

The one idea: whoever loads the folder gets the training prompt by itself, since the template of
the run stands in it, written in Jinja; nobody has to copy a prompt by hand.
Learned from the files of openai-community/gpt2, and from what `save_pretrained` writes.
"""

import json
import re
from string import Formatter

from ch07.data.tokenizer import merges_of, vocabulary_files
from collate import END_OF_TEXT

END = "<|endoftext|>"


def model_config(config, dtype="float32", style=None):
    """config.json: `GPT2Config` for a `GPTConfig`.

    `n_ctx` is no longer asked for by transformers, but by llama.cpp's converter. `prompt_style`
    is ours: transformers keeps what it doesn't know.
    """
    own = {} if style is None else {"prompt_style": style.name}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.emb_dim,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "resid_pdrop": config.drop_rate,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "scale_attn_weights": True,
        "tie_word_embeddings": config.tied_head,
        "use_cache": True,
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": END_OF_TEXT,
        "pad_token_id": END_OF_TEXT,
        "dtype": dtype,
        **own,
    }


def generation_config():
    """generation_config.json: greedy, as the scores were measured; stops at end-of-text."""
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END_OF_TEXT)
    return {**ids, "do_sample": False, "max_new_tokens": 256}


def tokenizer_files(context_length):
    """GPT-2's tokenizer by file name, as bytes: in the form of old tools and of new ones."""
    files = vocabulary_files()
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END)
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",  # generation goes on at the right
        **special,
    }
    files["tokenizer_config.json"] = _json(settings)
    files["special_tokens_map.json"] = _json(special)
    compact = json.dumps(_fast_tokenizer(files), ensure_ascii=False, separators=(",", ":"))
    files["tokenizer.json"] = compact.encode()
    return files


def _fast_tokenizer(files):
    """tokenizer.json: the same vocabulary and merges for the library `tokenizers`.

    Byte for byte the published file of openai-community/gpt2.
    """
    end = {"id": END_OF_TEXT, "special": True, "content": END, "single_word": False}
    end |= {"lstrip": False, "rstrip": False, "normalized": True}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end],
        "normalizer": None,
        "pre_tokenizer": {**decoder, "add_prefix_space": False},
        "post_processor": {**decoder, "trim_offsets": False},
        "decoder": decoder,
        "model": {
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": json.loads(files["vocab.json"]),
            "merges": merges_of(files),
        },
    }


CHAT_TEMPLATE = """\
{#- One user message, perhaps with a key "input"; after it perhaps one assistant message. -#}
{%- for message in messages -%}
{%- if loop.length > 2 or message['role'] != ('user' if loop.first else 'assistant') -%}
{{- raise_exception('This model answers one question at a time: give one user message, and \
perhaps its answer as an assistant message. It was trained without a system message.') -}}
{%- endif -%}
{%- if message['content'] is not string -%}
{{- raise_exception('The content of a message must be text.') -}}
{%- endif -%}
{%- endfor -%}
{%- set question = messages[0]['content'] -%}
{%- set context = messages[0]['input'] if messages[0]['input'] is defined else '' -%}
{%- if context and context | trim -%}
{{- WITH_INPUT -}}
{%- else -%}
{{- NO_INPUT -}}
{%- endif -%}
{%- if messages | length == 2 -%}
{{- messages[1]['content'] + eos_token -}}
{%- endif -%}
"""


def chat_template(style):
    """chat_template.jinja for a `PromptStyle`: its prompt, byte for byte.

    The instruction is a user message's "content"; what it works on, if anything, stands in a key
    "input" of the same message. An assistant message after it is followed by the end-of-text.
    """
    texts = {"WITH_INPUT": style.with_input, "NO_INPUT": style.no_input}
    parts = re.split("(WITH_INPUT|NO_INPUT)", CHAT_TEMPLATE.rstrip("\n"))
    return "".join(_expression(texts[part]) if part in texts else part for part in parts)


def _expression(template):
    """A `{instruction}` and `{input}` template as a Jinja expression."""
    names = {"instruction": "question", "input": "context"}
    pieces = []
    for fixed, field, _, _ in Formatter().parse(template):
        if fixed:
            pieces.append(json.dumps(fixed, ensure_ascii=False))  # Jinja has the same escapes
        if field is not None:
            if field not in names:
                raise ValueError(f"a prompt style can't have {{{field}}}, but {', '.join(names)}")
            pieces.append(names[field])
    return " + ".join(pieces) if pieces else "''"


def _json(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
