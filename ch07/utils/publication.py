"""How a finished file or folder gets its name: in one step, the only one that others can see.

The one idea: everything is written under a temporary name beside its place, flushed, and then given
its real name. A crash at any moment leaves the old file or the new one, never half of one. Where a
file must be new, the last step fails if its name is taken: two commands that write the same file
can't both succeed, and what appears while a command works is not lost.

A temporary name holds the number of the process that writes. If that process was killed, the next
one that writes under the same name deletes what was left.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

import psutil

from ch07.utils.errors import OptionError

# What the system says where a file can't have two names: on FAT, or on some network drives.
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EXDEV)


def temporary_path(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.new")


def delete_leftovers(path: Path) -> None:
    """Delete the temporary files and folders for `path` of processes that no longer exist."""
    for leftover in leftovers(path):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def leftovers(path: Path) -> list[Path]:
    """The temporary files and folders for `path` of processes that no longer exist."""
    found = []
    for temporary in path.parent.glob(f".{escape(path.name)}.*.new"):
        number = temporary.name.removesuffix(".new").rpartition(".")[2]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            found.append(temporary)
    return found


@contextmanager
def atomic_write(path: str | Path, *, new: bool = False) -> Iterator[Path]:
    """Yield a temporary path; it replaces `path` in one step if the block ends without an error.

    A `new` file replaces nothing: OptionError if there is something at `path` by then. OSError,
    with the name of the file, if it can't be written.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        if new:
            delete_leftovers(path)
        temporary.unlink(missing_ok=True)  # a link planted under this name must not be followed
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if new:
            publish(temporary, path)
        else:
            os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        # the system names the temporary file, or none if the disk is full
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name; OptionError if something has that name by now.

    Afterwards the temporary name may still exist, for the same file.
    """
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # claims the name
            os.replace(temporary, path)
    except FileExistsError:
        raise OptionError(
            f"{path} has been written by something else in the meantime, and was left as it is: "
            "choose another name"
        ) from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; it becomes `path` if the block ends without an error.

    OSError if there is a file or a folder with files at `path` by then.
    """
    delete_leftovers(path)
    temporary = temporary_path(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        fsync_folder(temporary)
        os.replace(temporary, path)  # of folders, only an empty one can be replaced
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def filled_folder(folder: Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder within an empty one, which gets its files at the end.

    For a folder that must stay the one that it is, such as a disk of its own. The file called
    `last` comes last: while it is missing, another process knows that the rest is incomplete.
    """
    temporary = temporary_path(folder / folder.name)
    try:
        temporary.mkdir()
        yield temporary
        files = [file for file in temporary.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: file == temporary / last):
            target = folder / file.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            publish(file, target)
        fsync_folder(folder)
    except BaseException:
        _take_back_files(temporary, folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def empty_after_kill(folder: Path) -> None:
    """Delete what a killed `filled_folder` left in the folder, and nothing else."""
    for temporary in leftovers(folder / folder.name):
        _take_back_files(temporary, folder)
        shutil.rmtree(temporary)


def _take_back_files(temporary: Path, folder: Path) -> None:
    """Delete the files in a folder that are the same files as those in a temporary one."""
    for file in temporary.rglob("*"):
        target = folder / file.relative_to(temporary)
        if file.is_file() and target.is_file() and os.path.samefile(file, target):
            target.unlink()
    for inner in temporary.rglob("*"):
        target = folder / inner.relative_to(temporary)
        if inner.is_dir() and target.is_dir() and not any(target.iterdir()):
            target.rmdir()


def fsync_folder(folder: str | Path) -> None:
    """Make a rename in `folder` survive a power failure; Windows can't do this and needn't."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
