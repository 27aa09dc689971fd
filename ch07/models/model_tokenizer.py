"""The tokenizer that belongs to a model: GPT-2's, or one of its own beside its weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tiktoken

from ch07.data.byte_pair_vocabulary import ModelTokenizer, Vocabulary
from ch07.data.chat_templates import style_of_template
from ch07.data.tokenizer import TokenizerError, load_tokenizer
from ch07.data.tokenizer_files import TOKENIZER_FILE, holds_gpt2, read_vocabulary
from ch07.models.architectures import ModelConfig
from ch07.models.weight_reader import WeightsError
from instruction_dataset import PromptStyle

CHATML_END = "<|im_end|>"


def make_tokenizer(path: Path, vocabulary: Vocabulary | None) -> tiktoken.Encoding:
    """The tokenizer of a vocabulary, GPT-2's if there is none; WeightsError if it can't be made."""
    if vocabulary is None:
        return load_tokenizer()
    try:
        return ModelTokenizer(vocabulary)
    except TokenizerError as error:
        raise WeightsError(f"{path}: {error}") from None


def check_vocabulary_size(name: str, config: ModelConfig, tokenizer: tiktoken.Encoding) -> None:
    """WeightsError unless model and tokenizer have the same number of tokens."""
    if config.vocab_size != tokenizer.n_vocab:
        raise WeightsError(
            f"{name} has {config.vocab_size:,} tokens, but its tokenizer ({tokenizer.name}) has "
            f"{tokenizer.n_vocab:,}: they don't belong together, or the embedding was padded"
        )


def read_stored_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary in a folder; None if it is GPT-2's, or if there is none.

    WeightsError if it can't be used.
    """
    if not (folder / TOKENIZER_FILE).is_file() or holds_gpt2(folder):
        return None
    try:
        return read_vocabulary(folder)
    except TokenizerError as error:
        raise WeightsError(f"{folder}: {error}") from None


def read_run_vocabulary(folder: Path, facts: dict[str, Any]) -> Vocabulary | None:
    """The vocabulary of a run, None for GPT-2's; WeightsError if it isn't that of its training."""
    gpt2 = load_tokenizer().name
    trained_with = facts.get("tokenizer", gpt2)
    if trained_with == gpt2:
        return None
    if not (folder / TOKENIZER_FILE).is_file():
        raise WeightsError(f"{folder}: {TOKENIZER_FILE} is missing")
    vocabulary = read_stored_vocabulary(folder)
    name = gpt2 if vocabulary is None else vocabulary.name
    if name != trained_with:
        raise WeightsError(
            f"{folder}: its tokenizer is {name}, but the run was trained with {trained_with}"
        )
    return vocabulary


def chat_style(
    vocabulary: Vocabulary,
) -> tuple[Vocabulary, PromptStyle | None, dict[str, Any] | None]:
    """(vocabulary, style, kind of conversations) of a model with a chat template.

    The vocabulary has the end token of the template: some files name another one, with which the
    model would not stop. The style is None if the template's isn't known.
    """
    if CHATML_END in vocabulary.marks:
        style, has_turns = style_of_template(vocabulary.template, CHATML_END)
        if style is not None:
            chats = {"turns": None, "system": True} if has_turns else None
            return replace(vocabulary, end=CHATML_END), style, chats
    return vocabulary, None, None
