"""Weights on disk -> tensors, one at a time: safetensors, possibly sharded, and `.pth` files.

Names and shapes are read first, since they are small; a tensor is read when it is needed, so there
is never a second copy of the weights in memory. Pickles are only read with `weights_only=True`,
which creates tensors and runs no code.
"""

import io
import pickle
import pickletools
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ch07.models.parameter_names import MASKS, plain_name
from ch07.utils.atomic_files import read_json
from ch07.utils.errors import UserError
from ch07.utils.plain_files import open_plain
from ch07.utils.validation import MAX_CONFIG_BYTES, MAX_LISTED, quote

MAX_HEADER_BYTES = 10_000_000  # of a safetensors file; a model of 1,000 blocks needs a third
MAX_PICKLE_BYTES = 2_000_000  # of the parts of a .pth file that aren't tensors; likewise
MAX_NAMES_LISTED = 5  # in a message
INDEX_FILE = "model.safetensors.index.json"
WEIGHT_FILES = ("model.safetensors", INDEX_FILE, "pytorch_model.bin", "model.pth")


# `catch_warnings` changes the whole process, and several threads may read weights.
_warnings_lock = threading.Lock()


class WeightsError(UserError, ValueError):
    """These weights can't be used; the message says what is wrong and what to do."""


class StoredWeights:
    """Tensors by plain name, without causal masks; `shapes` is known before any is read."""

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        shapes: Mapping[str, Sequence[int]],
        read: Callable[[Sequence[str]], Iterator[torch.Tensor]],
    ) -> None:
        self.files = files
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._read = read
        self._stored_names: dict[str, str] = {}  # by plain name
        for name, shape in shapes.items():
            plain = plain_name(name)
            if MASKS.fullmatch(plain):
                continue
            if plain in self._stored_names:
                other = self._stored_names[plain]
                raise WeightsError(f"{path} holds {plain} twice: as {other}, {name}")
            self._stored_names[plain] = name
            self.shapes[plain] = tuple(shape)

    def read(self, names: Sequence[str]) -> Iterator[torch.Tensor]:
        """The tensors of these names, one by one; several threads may read at the same time.

        A tensor may be mapped from the file, so copy it to keep it. What was read of a mapped file
        counts as memory until the iterator ends, so ask for one large tensor, or for small ones.
        """
        return self._read([self._stored_names[name] for name in names])


def is_tied(weights: StoredWeights, embedding: str, head: str, declared: bool = True) -> bool:
    """Whether output head and embedding are one matrix, as in transformers.

    They are unless the config says no (`declared`), or another output head is stored.
    """
    if not declared:
        return False
    if head not in weights.shapes:
        return True
    same_shape = weights.shapes[head] == weights.shapes.get(embedding)
    return same_shape and torch.equal(*weights.read([head, embedding]))


def open_weights(path: str | Path) -> StoredWeights:
    """The `StoredWeights` of a file or of the folder that holds one; else WeightsError."""
    path = Path(path)
    if path.is_dir():
        path = _weight_file_in(path)
    if path.exists() and not path.is_file():  # a pipe or a device, which may never end
        raise WeightsError(f"{path} is neither a file nor a folder")
    try:
        if path.name.endswith(".json"):
            return _open_safetensors(path, _shards_by_tensor(path))
        if path.suffix == ".safetensors":
            with _open_one_safetensors(path) as file:
                names = file.keys()
            return _open_safetensors(path, dict.fromkeys(names, path))
        return _open_torch(path)
    except FileNotFoundError:
        problem = "can't be opened" if path.exists() else "there is no such file"
        raise WeightsError(f"{path}: {problem}") from None


def read_config_beside(path: str | Path) -> dict[str, Any] | None:
    """config.json of the folder that holds the weights; None if it has none."""
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        return None
    try:
        config = read_json(file, MAX_CONFIG_BYTES)
    except ValueError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(config, dict):
        raise WeightsError(f"{file} is not a JSON object")
    return config


def _weight_file_in(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} holds no weights: none of {', '.join(WEIGHT_FILES)}")


# --- safetensors --------------------------------------------------------------------------------
@contextmanager
def _open_one_safetensors(path: Path) -> Iterator[Any]:
    """Open one safetensors file; WeightsError if it is damaged or incomplete."""
    with open_plain(path) as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise WeightsError(
            f"{path} is not a valid safetensors file: it claims a header of {header_bytes:,} bytes"
        )
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, TypeError, OverflowError) as error:
        raise WeightsError(
            f"{path} is not a valid safetensors file ({error}): it was altered, or the copy is "
            "incomplete; get it again"
        ) from None


def _shards_by_tensor(index: Path) -> dict[str, Path]:
    """{tensor name: file}, from the index of a sharded folder; only files in it are accepted."""
    try:
        shards = read_json(index, MAX_CONFIG_BYTES)["weight_map"]
        names = set(shards.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is not an index of shards: {error!r}") from None
    outside = sorted(str(name) for name in names if Path(str(name)).name != name)
    if outside:
        listed = ", ".join(map(quote, outside[:MAX_LISTED]))
        raise WeightsError(f"{index} names files outside its folder: {listed}")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        listed = ", ".join(quote(name)[1:-1] for name in missing[:MAX_LISTED])
        raise WeightsError(f"{index.parent} is incomplete: {listed} missing; get it again")
    return {tensor: index.parent / name for tensor, name in shards.items()}


def _open_safetensors(path: Path, shards: Mapping[str, Path]) -> StoredWeights:
    """The `StoredWeights` of tensors in one or more files ({tensor name: file})."""
    shapes: dict[str, Sequence[int]] = {}
    files = sorted(set(shards.values()))
    for shard in files:
        with _open_one_safetensors(shard) as file:
            stored = set(file.keys())
            for name in [name for name in shards if shards[name] == shard]:
                if name not in stored:
                    raise WeightsError(f"{shard} lacks {name}, which {path.name} says it holds")
                shapes[name] = file.get_slice(name).get_shape()

    def read(names: Sequence[str]) -> Iterator[torch.Tensor]:
        for shard, names_in_shard in groupby(names, shards.__getitem__):
            with _open_one_safetensors(shard) as file:
                for name in names_in_shard:
                    yield file.get_tensor(name)

    return StoredWeights(path, files, shapes, read)


# --- .pth ---------------------------------------------------------------------------------------
def _open_torch(path: Path) -> StoredWeights:
    """The `StoredWeights` of a state dict that `torch.save` wrote, or of a checkpoint with one."""
    file_bytes = path.stat().st_size
    if zipfile.is_zipfile(path):
        _check_archive(path, file_bytes)
    with open_plain(path) as file:  # the format before 2020 begins with its pickles
        _check_pickles(path, file.read(MAX_PICKLE_BYTES))
    state = _torch_state(path)
    _check_tensors(path, state, file_bytes)
    shapes = {name: tensor.shape for name, tensor in state.items()}
    if not zipfile.is_zipfile(path):  # the format before 2020 can't be mapped: it stays in memory
        return StoredWeights(path, [path], shapes, lambda names: map(state.__getitem__, names))

    def read(names: Sequence[str]) -> Iterator[torch.Tensor]:
        state = _torch_state(path)
        for name in names:
            yield state[name]

    return StoredWeights(path, [path], shapes, read)


def _check_tensors(path: Path, state: Mapping[Any, Any], file_bytes: int) -> None:
    """WeightsError unless a state dict holds plain tensors only, no larger than the file."""
    others = [
        str(name)
        for name, value in state.items()
        if not isinstance(name, str) or not torch.is_tensor(value)
    ]
    if others:
        raise WeightsError(
            f"{path} holds more than tensors: {', '.join(others[:MAX_NAMES_LISTED])}"
        )
    special = [name for name, tensor in state.items() if not _is_dense(tensor)]
    if special:
        listed = ", ".join(special[:MAX_NAMES_LISTED])
        raise WeightsError(f"{path} holds sparse, quantised or other special tensors: {listed}")
    # twice, since a tied head may be counted as a tensor of its own
    if sum(tensor.nbytes for tensor in state.values()) > 2 * file_bytes:
        raise WeightsError(f"{path}: its tensors claim to be larger than the file")


def _is_dense(tensor: torch.Tensor) -> bool:
    special = tensor.is_quantized or tensor.is_meta or tensor.is_nested
    return tensor.layout is torch.strided and not special


def _check_archive(path: Path, file_bytes: int) -> None:
    """WeightsError for a zip file that torch.save never writes, or that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if compressed or sum(part.file_size for part in parts) > file_bytes:
                raise WeightsError(
                    f"{path} is compressed, as torch.save never does: it is not opened"
                )
            damaged = archive.testzip()  # torch doesn't check the checksums that it wrote
            if damaged is None:
                _check_archived_pickles(path, archive)
    except WeightsError:
        raise
    except Exception as error:  # zipfile raises many types
        damaged = error
    if damaged:
        raise WeightsError(f"{path} is damaged (in {damaged}): get it or save it again")


def _check_archived_pickles(path: Path, archive: zipfile.ZipFile) -> None:
    for part in archive.infolist():
        if part.filename.endswith(".pkl"):
            if part.file_size > MAX_PICKLE_BYTES:
                raise WeightsError(f"{path} holds too much besides tensors")
            _check_pickles(path, archive.read(part))


def _check_pickles(path: Path, data: bytes) -> None:
    """WeightsError for a bytearray, the one object with which a pickle could fill the memory."""
    stream = io.BytesIO(data)
    imported: list[Any] = []
    # ValueError: no more pickles (the old format has several in a row); torch reports bad ones
    with suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while True:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    imported.append(argument)
    if any("bytearray" in name for name in imported):
        raise WeightsError(f"{path} holds more than tensors: a bytearray")


def _torch_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a .pth file, mapped from the file where its format allows that."""
    state: Any
    try:
        with _warnings_lock, warnings.catch_warnings():  # about old pickles, refused below
            warnings.simplefilter("ignore")
            can_be_mapped = zipfile.is_zipfile(path)  # torch.save's format since 2020
            state = torch.load(
                path, map_location="cpu", weights_only=True, mmap=can_be_mapped or None
            )
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} holds more than tensors, or is not a file of torch.save. It is not opened, "
            "since a pickle can run any program. Save only the state dict: "
            "torch.save(model.state_dict(), PATH)"
        ) from None
    except FileNotFoundError:
        raise
    except Exception as error:  # torch fails in many ways on files that are not weights
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} can't be read ({reason}): get it or save it again") from None
    for key in ("model_state_dict", "state_dict"):  # the book's key, and Lightning's
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no state dict, but {type(state).__name__}")
    return state
