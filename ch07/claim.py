"""A folder for a run: found, looked at, and claimed before anything is written in it.

The one idea: what can be known before training is said before training: another run in the
folder, another process at work in it, no right to write, no room on the disk.
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ch07.json_rows import has_half_character
from ch07.options import OptionError
from ch07.run_folder import (
    ADAPTER,
    CHECKPOINT,
    CONFIG,
    METRICS,
    MODEL,
    PLOT,
    RESPONSES,
    SCORES,
    RunFolderError,
    command_to_go_on,
)


def check_new_folder(wanted):
    """RunFolderError if a new run can't have this folder; None is any. Nothing is written."""
    folder = Path("runs") if wanted is None else Path(wanted)
    if has_half_character(str(folder)):  # config.json couldn't say it
        raise RunFolderError(f"{str(folder)!r} isn't a name in UTF-8: choose another --out")
    if wanted is not None and (folder / CONFIG).exists():
        raise RunFolderError(
            f"{folder} holds another run: choose another --out, or go on with it: "
            f"{command_to_go_on(folder)}"
        )
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: choose another --out")
    # a hidden file is no reason: a lock, or what a run left that was killed in its first second
    if wanted is not None and folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty: choose another --out")
    check_writable(folder)


def check_new_file(path, what):
    """OptionError if a file is there already, or can't be; `what` is how a reader names it."""
    if Path(path).exists():
        raise OptionError(f"{path} exists: choose another name for {what}")
    if not Path(path).absolute().parent.is_dir():
        raise OptionError(f"{Path(path).parent} is no folder: choose another for {what}")


def check_writable(folder, right=os.W_OK | os.X_OK):
    """RunFolderError if nothing can be written in a folder, or where it shall be made."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, right):
        raise RunFolderError(f"{folder} can't be written to: no right to, or a read-only disk")


def check_run(folder):
    """RunFolderError if there is no run that could go on; nothing is made or touched."""
    folder = Path(folder)
    if not (folder / CONFIG).exists() and not any((folder / CHECKPOINT).glob("step-*")):
        raise RunFolderError(f"{folder} is not a run folder: it has no {CONFIG}")
    check_writable(folder)


@contextmanager
def held(folder):
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


def check_space(wanted, n_parameters):
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
