"""A folder for a run: found, looked at, and claimed before anything is written in it.

The one idea: what can be known before training is said before training: another run in the
folder, another process at work in it, no right to write, no room on the disk.
"""

import shutil
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
from ch07.utils.paths import check_writable
from ch07.utils.validation import has_lone_surrogate


def check_new_folder(wanted):
    """RunFolderError if a new run can't have this folder; None is any. Nothing is written."""
    folder = Path("runs") if wanted is None else Path(wanted)
    if has_lone_surrogate(str(folder)):  # config.json couldn't say it
        raise RunFolderError(f"{str(folder)!r} isn't a name in UTF-8: choose another --out")
    if wanted is not None and (folder / CONFIG).exists():
        raise RunFolderError(
            f"{folder} holds another run: choose another --out, or go on with it: "
            f"{resume_command(folder)}"
        )
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: choose another --out")
    # a hidden file is no reason: a lock, or what a run left that was killed in its first second
    if wanted is not None and folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty: choose another --out")
    check_writable(folder)


def check_resumable_folder(folder):
    """RunFolderError if there is no run that could go on; nothing is made or touched."""
    folder = Path(folder)
    if not (folder / CONFIG).exists() and not any((folder / CHECKPOINT).glob("step-*")):
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}")
    check_writable(folder)


@contextmanager
def run_lock(folder):
    """No other run trains in this folder meanwhile; RunFolderError if one already does."""
    # what a link leads to would be emptied, written to, or lose its old steps
    for name in (".lock", CHECKPOINT, ADAPTER):
        if (Path(folder) / name).is_symlink():
            raise RunFolderError(f"{Path(folder) / name} is a link: put a real one in its place")
    lock = FileLock(Path(folder) / ".lock", timeout=0)  # the system lets go of it with the process
    try:
        lock.acquire()
    except Timeout:
        raise RunFolderError(
            f"another process is training in {folder}: wait for it, or choose another --out"
        ) from None
    try:
        for name in (CONFIG, METRICS, MODEL, PLOT, RESPONSES, SCORES):
            for left in Path(folder).glob(f".{name}.*.new"):  # by a run that was killed
                if left.is_symlink() or left.is_file():
                    left.unlink()
        yield folder
    finally:
        lock.release()


def new_run_folder(wanted=None):
    """A fresh folder: the wanted one if it is empty or new, else the next free runs/N."""
    check_new_folder(wanted)
    if wanted is not None:
        Path(wanted).mkdir(parents=True, exist_ok=True)
        return Path(wanted)
    number = 1
    while True:
        folder = Path("runs") / str(number)
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def check_disk_space(wanted, n_parameters):
    """RunFolderError if the disk has no room for a run: three checkpoints and the weights."""
    place = Path("runs" if wanted is None else wanted).resolve()
    while not place.exists():
        place = place.parent
    needed = n_parameters * 4 * (3 * 3 + 1)  # a checkpoint: weights and AdamW's two moments
    free = shutil.disk_usage(place).free
    if free < needed:
        raise RunFolderError(
            f"{place}: the run may need {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free: "
            "choose an --out on another disk, or try it all the same with --force"
        )
