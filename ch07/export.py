"""A finished run for other tools: a Hugging Face folder, and GGUF for llama.cpp on request.

python -m ch07 export RUN DIR [--gguf f32|f16]
"""

from pathlib import Path

from ch07 import run_folder as rf
from ch07.adapter_files import save_adapter
from ch07.adapters import base_of
from ch07.files import read_json
from ch07.gguf_file import find_writer, write_gguf
from ch07.model_card import model_card
from ch07.options import OptionError
from ch07.weights import export_hf

GGUF = "model.gguf"


def export(folder, target, gguf=None):
    """Write the run in `folder` as the new folder `target`; returns 0."""
    if not target:
        raise OptionError("DIR is empty: give the name of a new folder")
    run, name = rf.load_run(folder), Path(target).resolve().name
    if gguf is not None and rf.has_prefix(run.config):
        raise OptionError("GGUF has no place for a prefix: leave --gguf out")
    if run.config["options"].get("text"):  # its card would promise answers
        raise rf.RunFolderError(
            f"{folder} has read plain text only, and answers no instruction: fine-tune it first, "
            f"with: python -m ch07 finetune --model {folder}"
        )

    def add(new):
        if rf.has_prefix(run.config):
            save_adapter(new / rf.ADAPTER, run.model, name)
        if gguf is not None:
            write_gguf(run.model, new / GGUF, run.style, name, gguf)

    if gguf is not None:
        find_writer()  # a missing package is told before anything is written
    scores = _if_there(run.folder / rf.SCORES)
    held_out = _if_there(run.folder / rf.RESPONSES)
    card = model_card(run, scores, held_out, name)
    written = export_hf(base_of(run.model), target, run.style, card, add)
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        print(f"{Path(target) / path.relative_to(written)}  {path.stat().st_size:,} bytes")
    needed = "transformers peft" if rf.has_prefix(run.config) else "transformers"
    print(f"\nREADME.md there says how to ask it (after: pip install {needed}).")
    return 0


def _if_there(path):
    return read_json(path) if path.is_file() else None
