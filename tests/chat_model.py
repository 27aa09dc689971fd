"""A small model of Llama's kind with a chat model's tokenizer, for tests without the real one."""

from functools import lru_cache

import torch

from ch07.data.byte_pair_vocabulary import (
    ModelTokenizer,
    Vocabulary,
    bytes_by_character,
    gpt2_vocabulary,
)
from ch07.data.prompt_styles import chatml_style
from ch07.models.hf_export import export_hf
from ch07.models.llama import LlamaConfig, LlamaModel

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
N_MERGES = 700
MISSING = "\x04\x1d"  # bytes that the vocabulary lacks, as SmolLM2's does
STYLE = chatml_style("You are a small model.")
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a small model.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@lru_cache
def small_vocabulary(words="smollm"):
    """GPT-2's bytes and first merges, after three marks, as in SmolLM2's vocabulary."""
    known = gpt2_vocabulary()
    lacking = {c for c, byte in bytes_by_character().items() if chr(byte) in MISSING}
    letters = [token for token in known.tokens[:256] if token not in lacking]
    merges = known.merges[:N_MERGES]
    tokens = [*MARKS, *letters, *(merge.replace(" ", "") for merge in merges)]
    marks = {mark: number for number, mark in enumerate(MARKS)}
    return Vocabulary(tokens, merges, marks, words, "<|im_end|>", TEMPLATE)


@lru_cache
def small_tokenizer():
    """The tokenizer of `small_vocabulary`: it ends a text with 2."""
    return ModelTokenizer(small_vocabulary())


def small_llama(**changes):
    """A narrow Llama with that vocabulary, whose weights are far from the initial ones."""
    shape = {
        "vocab_size": len(small_vocabulary().tokens),
        "context_length": 256,
        "emb_dim": 24,
        "n_heads": 6,
        "n_kv_heads": 2,
        "n_layers": 2,
        "hidden_dim": 40,
        "rope_theta": 100.0,
    }
    stream = torch.Generator().manual_seed(0)
    model = LlamaModel(LlamaConfig(**{**shape, **changes}), stream)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=stream))
    return model.eval()


def save_small_llama(folder, **changes):
    """Such a model in a folder as transformers writes it."""
    model = small_llama(**changes)
    export_hf(model, folder, STYLE, conversations=True, vocabulary=small_vocabulary())
    return folder
