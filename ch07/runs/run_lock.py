"""The lock of a run folder, in which only one process trains at a time."""

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
    SAMPLES,
    SCORES,
    WATCH,
)
from ch07.utils.errors import RunFolderError
from ch07.utils.paths import check_writable

LOCK_FILE = ".lock"


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
    for name in (CONFIG, METRICS, SAMPLES, MODEL, PLOT, RESPONSES, SCORES, WATCH):
        for leftover in folder.glob(f".{name}.*.new"):
            if leftover.is_symlink() or leftover.is_file():
                leftover.unlink()
