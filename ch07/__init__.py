"""The workshop around the four chapter files; its public names are imported on first use.

    from ch07 import load_run, respond

    run = load_run("runs/1")

Importing `ch07` itself loads nothing heavy: PyTorch is imported with the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ch07.utils.openmp import shorten_waiting

if TYPE_CHECKING:
    from ch07.data.entries import load_entries
    from ch07.data.tokenizer import load_tokenizer
    from ch07.generation.decoding import generate
    from ch07.generation.respond import respond
    from ch07.models.hf_export import export_hf
    from ch07.models.pretrained import load_gpt2
    from ch07.models.saved_run import load_run, load_trained_model
    from ch07.visualization.token_grid import TokenGrid

shorten_waiting()  # PyTorch's threads read it when PyTorch is loaded, so this comes first

__version__ = "0.4.0"  # defined only here; pyproject.toml reads it

PUBLIC_NAMES = {
    "TokenGrid": "ch07.visualization.token_grid",
    "export_hf": "ch07.models.hf_export",
    "generate": "ch07.generation.decoding",
    "load_entries": "ch07.data.entries",
    "load_gpt2": "ch07.models.pretrained",
    "load_run": "ch07.models.saved_run",
    "load_trained_model": "ch07.models.saved_run",
    "load_tokenizer": "ch07.data.tokenizer",
    "respond": "ch07.generation.respond",
}
__all__ = [
    "TokenGrid",
    "export_hf",
    "generate",
    "load_entries",
    "load_gpt2",
    "load_run",
    "load_tokenizer",
    "load_trained_model",
    "respond",
]


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for (PEP 562)."""
    if name not in PUBLIC_NAMES:
        raise AttributeError(f"module 'ch07' has no attribute {name!r}")
    return getattr(import_module(PUBLIC_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
