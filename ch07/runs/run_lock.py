"""The folder of a run before training: checked, created, and locked against other processes.

Whatever would stop the run later is reported before it starts: another run in the folder, another
process that trains in it, missing permission, too little disk space.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ch07.runs.run_folder import (
    ADAPTER,
    CHECKPOINT,
    CONFIG,
    METRICS,
    MODEL,
    PLOT,
    RESPONSES,
    SCORES,
    resume_command,
)
from ch07.utils.errors import RunFolderError
from ch07.utils.paths import check_writable, nearest_existing_folder
from ch07.utils.validation import has_lone_surrogate

NUMBERED_RUNS = Path("runs")  # where runs without --out go: runs/1, runs/2, ...
LOCK_FILE = ".lock"
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


def check_resumable_folder(folder: str | Path) -> None:
    """RunFolderError if the folder holds no run to resume; nothing is created or changed."""
    folder = Path(folder)
    if not (folder / CONFIG).exists() and not any((folder / CHECKPOINT).glob("step-*")):
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}")
    check_writable(folder)


@contextmanager
def run_lock(folder: str | Path) -> Iterator[Path]:
    """Keep other processes from training in this folder; RunFolderError if one already does."""
    # Links are refused: what they point to would be written to, or its old checkpoints deleted.
    for name in (LOCK_FILE, CHECKPOINT, ADAPTER):
        if (Path(folder) / name).is_symlink():
            raise RunFolderError(
                f"{Path(folder) / name} is a link: replace it with the file or folder itself"
            )
    lock = FileLock(Path(folder) / LOCK_FILE, timeout=0)  # released when the process ends
    try:
        lock.acquire()
    except Timeout:
        raise RunFolderError(
            f"another process is training in {folder}: wait for it, or choose another --out"
        ) from None
    try:
        _delete_temporary_files(Path(folder))
        yield Path(folder)
    finally:
        lock.release()


def _delete_temporary_files(folder: Path) -> None:
    """Delete what a killed run left of files that were being written."""
    for name in (CONFIG, METRICS, MODEL, PLOT, RESPONSES, SCORES):
        for leftover in folder.glob(f".{name}.*.new"):
            if leftover.is_symlink() or leftover.is_file():
                leftover.unlink()


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


def check_disk_space(out: str | Path | None, n_parameters: int) -> None:
    """RunFolderError if the disk has too little space for a run: checkpoints and final weights."""
    folder = nearest_existing_folder(Path(NUMBERED_RUNS if out is None else out).resolve())
    needed = n_parameters * MAX_BYTES_PER_PARAMETER
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFolderError(
            f"{folder}: the run may need {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are "
            "free: choose an --out on another disk, or ignore this with --force"
        )
