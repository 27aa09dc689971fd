"""Export a finished run for other tools: a Hugging Face folder, and GGUF for llama.cpp on request.

python -m ch07 export RUN DIR [--gguf f32|f16|q8_0]
"""

from pathlib import Path
from typing import Any, cast

from ch07.data.byte_pair_vocabulary import vocabulary_of
from ch07.models.adapters import base_model
from ch07.models.architectures import BaseModel
from ch07.models.gguf_export import import_gguf, write_gguf
from ch07.models.hf_export import export_hf
from ch07.models.model_card import model_card
from ch07.models.peft_format import save_adapter
from ch07.models.saved_run import load_run
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json
from ch07.utils.console import shell_path, terminal_line
from ch07.utils.errors import OptionError, RunFolderError

GGUF = "model.gguf"


def export(folder: str, target: str, gguf: str | None = None) -> int:
    """Write the run in `folder` as the new folder `target`; returns 0."""
    if not target:
        raise OptionError("DIR is empty: give the name of a new folder")
    run = load_run(folder)
    name = Path(target).resolve().name
    vocabulary = vocabulary_of(run.tokenizer)
    if gguf is not None and run_folder.has_prefix(run.config):
        raise OptionError("GGUF can't store a prefix: leave --gguf out")
    if run.config["options"].get("text"):  # its card would promise answers
        raise RunFolderError(
            f"{folder} was trained on plain text only, and can't follow instructions: fine-tune "
            f"it first, with: python -m ch07 finetune --model {shell_path(folder)}"
        )

    def add_files(new: Path) -> None:
        if run_folder.has_prefix(run.config):
            save_adapter(new / run_folder.ADAPTER, run.model, name)
        if gguf is not None:
            model = cast(BaseModel, run.model)
            write_gguf(
                model,
                new / GGUF,
                run.style,
                name=name,
                number_format=gguf,
                conversations=run.conversations is not None,
                vocabulary=vocabulary,
            )

    if gguf is not None:
        import_gguf()  # a missing package is reported before anything is written
    scores = _read_if_exists(run.folder / run_folder.SCORES)
    held_out = _read_if_exists(run.folder / run_folder.RESPONSES)
    card = model_card(run, scores, held_out, name)
    written = export_hf(
        base_model(run.model),
        target,
        run.style,
        card,
        conversations=run.conversations is not None,
        vocabulary=vocabulary,
        add=add_files,
    )
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        line = f"{Path(target) / path.relative_to(written)}  {path.stat().st_size:,} bytes"
        print(terminal_line(line, width=None))
    needed = "transformers peft" if run_folder.has_prefix(run.config) else "transformers"
    print(f"\nREADME.md there shows how to use it (after: pip install {needed}).")
    return 0


def _read_if_exists(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
