"""The small files of a Hugging Face model folder: shape, tokenizer, chat template.

The chat template is the run's prompt style, written in Jinja: whoever loads the folder prompts the
model as it was trained, without copying a prompt by hand. Learned from the files of
openai-community/gpt2, and from what `save_pretrained` writes.
"""

import json
import re
from dataclasses import asdict
from string import Formatter
from typing import Any

from ch07.data.byte_pair_vocabulary import Vocabulary
from ch07.data.chat_forms import chat_form
from ch07.data.tokenizer import merges_of, vocabulary_files
from ch07.models.architectures import ModelConfig
from ch07.models.llama import LlamaConfig
from ch07.utils.errors import InputError
from collate import END_OF_TEXT
from gpt_model import GPTConfig
from instruction_dataset import PromptStyle

END_TOKEN = "<|endoftext|>"  # the text of the token END_OF_TEXT
LAYER_NORM_EPSILON = 1e-5


def model_config(
    config: ModelConfig,
    dtype: str = "float32",
    style: PromptStyle | None = None,
    end_id: int = END_OF_TEXT,
) -> dict[str, Any]:
    """The content of config.json, for transformers.

    `prompt_style` is a key of our own, which transformers keeps.
    """
    shape = _llama_shape(config) if isinstance(config, LlamaConfig) else _gpt2_shape(config)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_id)
    own = {} if style is None else {"prompt_style": asdict(style)}
    shared = {"tie_word_embeddings": config.tied_head, "use_cache": True}
    return {**shape, **shared, **ids, "dtype": dtype, **own}


def _gpt2_shape(config: GPTConfig) -> dict[str, Any]:
    """A `GPT2Config`; transformers no longer reads `n_ctx`, but llama.cpp's converter does."""
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
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "initializer_range": 0.02,
        "resid_pdrop": config.drop_rate,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "scale_attn_weights": True,
    }


def _llama_shape(config: LlamaConfig) -> dict[str, Any]:
    """A `LlamaConfig` of transformers; `rope_theta` stands twice, for version 4 and for 5."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.hidden_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": config.drop_rate,
        "initializer_range": 0.02,
    }


def generation_config(context_length: int, end_id: int = END_OF_TEXT) -> dict[str, Any]:
    """The content of generation_config.json: greedy, as scores are measured, up to end-of-text.

    The limit counts the prompt as well, so that nothing beyond the model's context is asked for.
    """
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_id)
    return {**ids, "do_sample": False, "max_length": context_length}


def check_vocabulary(config: ModelConfig, vocabulary: Vocabulary | None = None) -> None:
    """InputError for a model with another number of tokens than the tokenizer beside it.

    Without a vocabulary, that is GPT-2's.
    """
    n_tokens = END_OF_TEXT + 1 if vocabulary is None else len(vocabulary.tokens)
    if config.vocab_size != n_tokens:
        raise InputError(
            f"the model has {config.vocab_size:,} tokens, but the tokenizer that is exported with "
            f"it {n_tokens:,}: a vocabulary that was enlarged can't be exported"
        )


def gpt2_tokenizer_files(context_length: int) -> dict[str, bytes]:
    """GPT-2's tokenizer as {file name: content}, for `tokenizers` and for older programs."""
    files = vocabulary_files()
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END_TOKEN)
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",  # generated tokens are appended on the right
        **special,
    }
    files["tokenizer_config.json"] = _json(settings)
    files["special_tokens_map.json"] = _json(special)
    compact = json.dumps(_fast_tokenizer(files), ensure_ascii=False, separators=(",", ":"))
    files["tokenizer.json"] = compact.encode()
    return files


def _fast_tokenizer(files: dict[str, bytes]) -> dict[str, Any]:
    """The content of tokenizer.json, for the library `tokenizers`.

    It equals the published file of openai-community/gpt2 byte for byte.
    """
    end = {"id": END_OF_TEXT, "special": True, "content": END_TOKEN}
    end |= {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
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
{%- if not messages -%}
{{- raise_exception('There is no message: give one user message.') -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- raise_exception('This model was trained without system messages: put everything that it \
should know into the user message.') -}}
{%- endif -%}
{%- if loop.length > 2 or message['role'] != ('user' if loop.first else 'assistant') -%}
{{- raise_exception('This model was trained on single instructions, not on conversations: give \
one user message, optionally followed by its answer as an assistant message.') -}}
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


CONVERSATION_TEMPLATE = """\
{#- Perhaps a system message; then user and assistant take turns, each answer with its end. -#}
{%- set starts_with_system = messages and messages[0]['role'] == 'system' -%}
{%- set has_system = starts_with_system and messages[0]['content'] | trim -%}
{%- set turns = messages[1:] if starts_with_system else messages -%}
{%- if not turns -%}
{{- raise_exception('There is no message: give a user message.') -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['content'] is not string -%}
{{- raise_exception('The content of a message must be text.') -}}
{%- endif -%}
{%- endfor -%}
{%- for message in turns -%}
{%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('User and assistant must take turns, after at most one system message.') -}}
{%- endif -%}
{%- endfor -%}
{%- if has_system -%}
{%- set system = messages[0]['content'] -%}
{{- SYSTEM -}}
{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}
{%- else -%}
{%- set question = message['content'] -%}
{%- set context = message['input'] if message['input'] is defined else '' -%}
{%- if not loop.first -%}
{{- BETWEEN -}}
{%- endif -%}
{%- if loop.first and not has_system -%}
{%- if context and context | trim -%}
{{- WITH_INPUT -}}
{%- else -%}
{{- NO_INPUT -}}
{%- endif -%}
{%- elif context and context | trim -%}
{{- TURN_WITH_INPUT -}}
{%- else -%}
{{- TURN_NO_INPUT -}}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
"""


def chat_template(
    style: PromptStyle, conversations: bool = False, mark_answers: bool = True
) -> str:
    """The content of chat_template.jinja for a `PromptStyle`: its prompt, byte for byte.

    The instruction is the "content" of a user message; a text that it works on is the "input" of
    the same message. An assistant message after it is followed by end-of-text. A model that was
    trained on single instructions has a template that raises an error for system messages and for
    several turns, instead of inventing a format. With `conversations`, both are written as in
    training, and `return_assistant_tokens_mask` marks what the loss counted; the marks in the
    template, which only transformers reads, are left out without `mark_answers`.
    """
    texts = {"WITH_INPUT": style.with_input, "NO_INPUT": style.no_input}
    template = CHAT_TEMPLATE
    if conversations:
        form = chat_form(style)
        template = CONVERSATION_TEMPLATE
        if not mark_answers:
            template = re.sub(r"\{%- (?:end)?generation -%\}", "", template)
        texts["TURN_WITH_INPUT"] = form.turn.with_input
        texts["TURN_NO_INPUT"] = form.turn.no_input
        texts["BETWEEN"] = form.between
        texts["SYSTEM"] = form.system
    pieces = re.split(r"\b((?:TURN_)?(?:WITH|NO)_INPUT|BETWEEN|SYSTEM)\b", template.rstrip("\n"))
    return "".join(_expression(texts[piece]) if piece in texts else piece for piece in pieces)


def _expression(template: str) -> str:
    """A template with `{instruction}` and `{input}` as a Jinja expression."""
    names = {"instruction": "question", "input": "context", "system": "system"}
    pieces = []
    for literal, field, _, _ in Formatter().parse(template):
        if literal:
            pieces.append(json.dumps(literal, ensure_ascii=False))  # Jinja has the same escapes
        if field is not None:
            if field not in names:
                allowed = "{instruction} and {input}"
                raise InputError(f"a prompt style can use {allowed}, but not {{{field}}}")
            pieces.append(names[field])
    return " + ".join(pieces) if pieces else "''"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
