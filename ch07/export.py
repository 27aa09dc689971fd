"""A finished run for other tools: a Hugging Face folder, and GGUF for llama.cpp on request.

python -m ch07 export RUN DIR [--gguf f32|f16]
"""

from pathlib import Path

from ch07 import run_folder as rf
from ch07.files import read_json
from ch07.gguf_file import find_writer, write_gguf
from ch07.model_card import model_card
from ch07.weights import export_hf

GGUF = "model.gguf"


def export(folder, target, gguf=None):
    """Write the run in `folder` as the new folder `target`; returns 0."""
    if gguf is not None:
        find_writer()  # a missing package is told before anything is written
    run = rf.load_run(folder)
    n_parameters = sum(p.numel() for p in run.model.parameters())
    scores = _if_there(run.folder / rf.SCORES)
    held_out = _if_there(run.folder / rf.RESPONSES)
    example = held_out[0] if held_out else None
    card = model_card(run, n_parameters, scores, example, Path(target).as_posix())
    written = export_hf(run.model, target, run.style, card)
    if gguf is not None:
        write_gguf(run.model, written / GGUF, run.style, written.name, gguf)
    for path in sorted(written.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
    print(
        f'\nTry: python -c "from transformers import pipeline; '
        f"print(pipeline('text-generation', '{written.as_posix()}')"
        "([{'role': 'user', 'content': 'Name a colour.'}], return_full_text=False))\""
    )
    return 0


def _if_there(path):
    return read_json(path) if path.is_file() else None
