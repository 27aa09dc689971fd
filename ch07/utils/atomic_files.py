"""Files that are whole or not there: write beside, flush, then rename.

The one idea: a rename is the only step that a reader can see, so a crash at any moment leaves
the old file or the new one, never half of one.
"""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

CHECKSUM_KEY = "sealed"  # the key under which a file's own hash stands


@contextmanager
def atomic_write(path):
    """A path to write to; it becomes `path` in one visible step if nothing fails."""
    path = Path(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)  # if somebody planted a link there, it isn't followed
    try:
        yield new
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
        fsync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


def fsync_folder(folder):
    """Make a rename survive a power cut; Windows can't open folders, and needs no such thing."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path, data):
    """Put `data` at `path` in one visible step; OSError leaves what was there before."""
    with atomic_write(path) as new:
        new.write_bytes(data)


def write_json(path, value):
    """Write `value` as indented UTF-8 JSON; NaN is refused, since JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_jsonl(path, rows, strict=True):
    """Write each row of an iterator as a line of UTF-8 JSON; returns how many there were.

    Letters stand as themselves, U+2028 too, since a line ends at "\\n" alone. A ValueError names
    the row that holds NaN, which JSON doesn't have, or half a character (a lone surrogate), which
    UTF-8 doesn't. If not `strict`, these are written as Python's json writes and reads them.
    """
    n = 0
    with atomic_write(path) as new, open(new, "wb") as file:
        for n, row in enumerate(rows, start=1):
            try:
                line = json.dumps(row, ensure_ascii=False, allow_nan=not strict)
                file.write(line.encode(errors="strict" if strict else "backslashreplace") + b"\n")
            except UnicodeEncodeError:
                where = f"{path}: row {n}"
                raise ValueError(f"{where} holds half a character (a lone surrogate)") from None
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}: row {n} can't be written: {error}") from None
    return n


def read_json(path):
    """The JSON value in a UTF-8 file; ValueError names the file that holds none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON that can be read: {error}") from None


def write_json_with_checksum(path, value):
    """`write_json` of an object with a hash of the rest in it, which tells any later change."""
    write_json(path, {**value, CHECKSUM_KEY: _seal(value)})


def read_json_with_checksum(path, always_sealed=False):
    """What `write_json_with_checksum` wrote; ValueError if it was altered since.

    An object without a seal was written before there were seals, and is taken as it is; unless
    its kind was `always_sealed`.
    """
    value = read_json(path)
    if isinstance(value, dict):
        seal = value.pop(CHECKSUM_KEY, None)
        if seal == _seal(value) or (seal is None and not always_sealed):
            return value
    raise ValueError(f"{path} is not what was written: altered, or damaged")


def _seal(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_tensors(path, tensors, metadata=None):
    """Write tensors by name as safetensors, uncopied; return the file's sha256."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as new:
        new.touch()
        rights = new.stat().st_mode  # of any other file; the library keeps its own to the owner
        try:
            save_file(tensors, new, metadata)
            os.chmod(new, rights)
        except SafetensorError as error:  # a full disk, said in another type
            raise OSError(f"{path} can't be written: {error}") from error
        return sha256_of(new)


def read_tensors(path):
    """A dict of CPU tensors from a safetensors file (never a pickle)."""
    return load_file(path)


def sha256_of(path):
    """The file's sha256, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
