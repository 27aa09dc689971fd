"""A model -> a folder that Hugging Face's `transformers` loads."""

from collections.abc import Callable
from pathlib import Path

from ch07.data.byte_pair_vocabulary import Vocabulary
from ch07.data.tokenizer_files import write_vocabulary
from ch07.models.architectures import BaseModel
from ch07.models.hf_files import (
    chat_template,
    check_vocabulary,
    generation_config,
    gpt2_tokenizer_files,
    model_config,
)
from ch07.models.parameter_names import HEAD, name_table, to_published
from ch07.models.weight_reader import WeightsError
from ch07.utils.atomic_files import write_bytes, write_json, write_tensors
from ch07.utils.publication import empty_after_kill, filled_folder, new_folder
from collate import END_OF_TEXT
from instruction_dataset import BOOK_STYLE, PromptStyle


def export_hf(
    model: BaseModel,
    folder: str | Path,
    style: PromptStyle = BOOK_STYLE,
    card: str | None = None,
    *,
    conversations: bool = False,
    vocabulary: Vocabulary | None = None,
    add: Callable[[Path], object] | None = None,
) -> Path:
    """Write a folder that transformers loads: weights, shape, tokenizer, chat template, card.

    `card` is the text of README.md; `conversations` says whether the model was trained on them, so
    that the chat template accepts them; `vocabulary` is that of the tokenizer, if it isn't GPT-2's;
    `add` is called with the folder to write more files.
    Returns the folder, which must be new or empty (else WeightsError). A new one appears complete
    or not at all; an existing empty one gets its config.json last. InputError for a model with
    another vocabulary than the tokenizer; OSError if the folder can't be written.
    """
    check_vocabulary(model.config, vocabulary)
    folder = Path(folder).resolve()
    if folder.is_dir():
        empty_after_kill(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists and is not empty: choose another folder")
    # Inside an existing folder, since that may be a disk of its own, with its own permissions.
    # config.json comes last: without it, the folder isn't taken for a model.
    filling = filled_folder(folder, "config.json") if folder.is_dir() else new_folder(folder)
    try:
        with filling as temporary:
            _write_files(temporary, model, style, card, conversations, vocabulary)
            if add is not None:
                add(temporary)
    except OSError as error:
        raise OSError(f"{folder} can't be written: {error.strerror or error}") from error
    return folder


def _write_files(
    folder: Path,
    model: BaseModel,
    style: PromptStyle,
    card: str | None,
    conversations: bool,
    vocabulary: Vocabulary | None,
) -> None:
    state = to_published(dict(model.named_parameters()), model.config)
    wrapper = name_table(model.config).wrapper
    published = {
        name if name == HEAD.published else f"{wrapper}{name}": tensor
        for name, tensor in state.items()
    }
    write_tensors(folder / "model.safetensors", published, {"format": "pt"})
    dtype = str(model.tok_emb.weight.dtype).removeprefix("torch.")
    context_length = model.config.context_length
    end_id = END_OF_TEXT if vocabulary is None else vocabulary.marks[vocabulary.end]
    write_json(folder / "config.json", model_config(model.config, dtype, style, end_id))
    write_json(folder / "generation_config.json", generation_config(context_length, end_id))
    if vocabulary is None:
        for name, data in gpt2_tokenizer_files(context_length).items():
            write_bytes(folder / name, data)
    else:
        write_vocabulary(folder, vocabulary, context_length)
    template = chat_template(style, conversations)
    write_bytes(folder / "chat_template.jinja", template.encode())
    if card is not None:
        write_bytes(folder / "README.md", card.encode())
