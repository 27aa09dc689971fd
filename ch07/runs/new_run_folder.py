"""The folder of a new run: checked, numbered if it has no name, and created.

Whatever would stop the run later is reported before it starts: another run in the folder, missing
permission, too little disk space.
"""

import shutil
from pathlib import Path

from ch07.runs.run_folder import CONFIG, resume_command
from ch07.utils.errors import RunFolderError
from ch07.utils.paths import check_writable, nearest_existing_folder
from ch07.utils.validation import has_lone_surrogate

NUMBERED_RUNS = Path("runs")  # where runs without --out go: runs/1, runs/2, ...
# During a run the disk holds at most three checkpoints, each with the weights and AdamW's two
# moments, and the final weights; all of them are float32.
MAX_BYTES_PER_PARAMETER = 4 * (3 * 3 + 1)


def check_new_folder(out: str | Path | None) -> None:
    """RunFolderError if a new run can't use this folder (None: a numbered one); writes nothing."""
    folder = NUMBERED_RUNS if out is None else Path(out)
    if has_lone_surrogate(str(folder)):  # config.json couldn't store the name
        raise RunFolderError(f"{str(folder)!r} isn't a name in UTF-8: choose another --out")
    if out is not None and (folder / CONFIG).exists():
        raise RunFolderError(
            f"{folder} holds another run: choose another --out, or resume it with: "
            f"{resume_command(folder)}"
        )
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: choose another --out")
    if out is not None and folder.is_dir() and _has_visible_files(folder):
        raise RunFolderError(f"{folder} is not empty: choose another --out")
    check_writable(folder)


def _has_visible_files(folder: Path) -> bool:
    """Hidden files don't count: a lock, or what a run left that was killed in its first second."""
    return any(not path.name.startswith(".") for path in folder.iterdir())


def new_run_folder(out: str | Path | None = None) -> Path:
    """Create the folder of a new run: `out`, which may exist if empty, or the next free runs/N."""
    check_new_folder(out)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        return Path(out)
    number = 1
    while True:
        folder = NUMBERED_RUNS / str(number)
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def check_disk_space(out: str | Path | None, n_parameters: int, *, can_force: bool = True) -> None:
    """RunFolderError if the disk has too little space for a run: checkpoints and final weights.

    `can_force`: the command has a flag --force.
    """
    folder = nearest_existing_folder(Path(NUMBERED_RUNS if out is None else out).resolve())
    needed = n_parameters * MAX_BYTES_PER_PARAMETER
    free = shutil.disk_usage(folder).free
    if free < needed:
        force = ", or ignore this with --force" if can_force else ""
        raise RunFolderError(
            f"{folder}: the run may need {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are "
            f"free: choose an --out on another disk{force}"
        )
