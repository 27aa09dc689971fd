"""A model -> a folder that Hugging Face's `transformers` loads."""

import os
import shutil
from pathlib import Path

from ch07.models.hf_files import chat_template, generation_config, model_config, tokenizer_files
from ch07.models.parameter_names import HEAD, to_published
from ch07.models.weight_reader import WeightsError
from ch07.utils.atomic_files import write_bytes, write_json, write_tensors
from instruction_dataset import BOOK_STYLE


# --- out ----------------------------------------------------------------------------------------
def export_hf(model, folder, style=BOOK_STYLE, card=None, add=lambda folder: None):
    """Write a folder that transformers loads: weights, shape, tokenizer, chat template, card.

    The folder must be new or empty; it appears whole, or not at all (an empty one that is there
    already gets its config.json last). `card` is README.md's text; `add(folder)` may write more.
    """
    folder = Path(folder).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} is there already, and not empty: choose another folder")
    # inside an empty folder that exists: it may be a disk of its own, and have rights of its own
    place = folder if folder.is_dir() else folder.parent
    new = place / f".{folder.name}.{os.getpid()}.new"
    try:
        new.mkdir(parents=True)
        _write_files(new, model, style, card)
        add(new)
        if folder.is_dir():
            for file in sorted(new.iterdir(), key=lambda file: file.name == "config.json"):
                os.replace(file, folder / file.name)  # what makes it a model comes last
        else:
            os.replace(new, folder)
    except OSError as error:
        raise OSError(f"{folder} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _write_files(new, model, style, card):
    published = {
        name if name == HEAD[0].published else f"transformer.{name}": tensor
        for name, tensor in to_published(dict(model.named_parameters()), model.config).items()
    }
    write_tensors(new / "model.safetensors", published, {"format": "pt"})
    dtype = str(model.tok_emb.weight.dtype).removeprefix("torch.")
    write_json(new / "config.json", model_config(model.config, dtype, style))
    write_json(new / "generation_config.json", generation_config())
    for name, data in tokenizer_files(model.config.context_length).items():
        write_bytes(new / name, data)
    write_bytes(new / "chat_template.jinja", chat_template(style).encode())
    if card is not None:
        write_bytes(new / "README.md", card.encode())
