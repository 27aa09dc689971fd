"""Weights on disk -> tensors, one at a time: safetensors, sharded or not, and `.pth` files.

The one idea: what is asked first are names and shapes, which are small; a tensor is read when its
turn comes, so that no second copy of the weights is ever in memory. Pickle is read with
`weights_only=True` alone, which builds tensors and runs nothing.
"""

import io
import pickle
import pickletools
import warnings
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ch07.models.parameter_names import MASKS, plain_name
from ch07.utils.atomic_files import read_json
from ch07.utils.validation import MAX_CONFIG_BYTES, MAX_LISTED, check_size, quoted

LONGEST_HEADER = 10_000_000  # bytes; a thousand blocks need a third
LONGEST_PICKLE = 2_000_000  # bytes of a .pth file that aren't numbers: likewise
INDEX = "model.safetensors.index.json"
CANDIDATES = ("model.safetensors", INDEX, "pytorch_model.bin", "model.pth")


class WeightsError(ValueError):
    """These weights can't be used; the message says what is wrong and what to do."""


class StoredWeights:
    """Tensors by plain name, without masks; `shapes` is known before anything is read."""

    def __init__(self, path, files, shapes, read):
        self.files, self._read = files, read
        self._stored = {}  # plain name -> the name in the file
        self.shapes = {}
        for name, shape in shapes.items():
            plain = plain_name(name)
            if MASKS.fullmatch(plain):
                continue
            if plain in self._stored:
                raise WeightsError(f"{path} holds {plain} twice: as {self._stored[plain]}, {name}")
            self._stored[plain], self.shapes[plain] = name, tuple(shape)

    def read(self, name):
        """One tensor; it may lie in the file's own memory, so copy what shall stay."""
        return self._read(self._stored[name])


def open_weights(path):
    """The `StoredWeights` of a file, or of the folder that holds one; WeightsError says why not."""
    path = Path(path)
    if path.is_dir():
        path = _file_in(path)
    if path.exists() and not path.is_file():  # a pipe or a device, which may never end
        raise WeightsError(f"{path} is neither a file nor a folder")
    try:
        if path.name.endswith(".json"):
            return _open_safetensors(path, _places(path))
        if path.suffix == ".safetensors":
            with _opened(path) as file:
                places = dict.fromkeys(file.keys(), path)
            return _open_safetensors(path, places)
        return _open_torch(path)
    except FileNotFoundError:
        problem = "can't be opened" if path.exists() else "there is no such file"
        raise WeightsError(f"{path}: {problem}") from None


@contextmanager
def _opened(path):
    """A safetensors file; WeightsError if it isn't whole."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:
        raise WeightsError(
            f"{path} is not a whole safetensors file: it claims a header of {length:,} bytes"
        )
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, TypeError, OverflowError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}): it was altered or copied in part; "
            "get it again"
        ) from None


def _file_in(folder):
    found = next((folder / name for name in CANDIDATES if (folder / name).is_file()), None)
    if found is None:
        raise WeightsError(f"{folder} holds no weights: none of {', '.join(CANDIDATES)}")
    return found


def _places(index):
    """Tensor name -> file, from the index of a sharded folder; a path out of it is refused."""
    try:
        check_size(index, MAX_CONFIG_BYTES)
        places = read_json(index)["weight_map"]
        names = set(places.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is no index of shards: {error!r}") from None
    outside = sorted(str(name) for name in names if Path(str(name)).name != name)
    if outside:
        shown = ", ".join(map(quoted, outside[:MAX_LISTED]))
        raise WeightsError(f"{index} names files outside its folder: {shown}")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        shown = ", ".join(quoted(name)[1:-1] for name in missing[:MAX_LISTED])
        raise WeightsError(f"{index.parent} is not whole: {shown} missing; get it")
    return {name: index.parent / place for name, place in places.items()}


def _open_safetensors(path, places):
    shapes = {}
    for place in sorted(set(places.values())):
        with _opened(place) as file:
            there = set(file.keys())
            for name in (name for name, own in places.items() if own == place):
                if name not in there:
                    raise WeightsError(f"{place} lacks {name}, which {path.name} says is in it")
                shapes[name] = file.get_slice(name).get_shape()

    def read(name):
        # Opened anew each time: what was read of a mapped file counts as memory until it closes.
        with _opened(places[name]) as file:
            return file.get_tensor(name)

    return StoredWeights(path, sorted(set(places.values())), shapes, read)


def _open_torch(path):
    """A state dict as `torch.save` writes it, or a checkpoint that holds one."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        _check_archive(path, size)
    with open(path, "rb") as file:  # the format before 2020 begins with its pickles
        _check_pickles(path, file.read(LONGEST_PICKLE))
    state = _torch_state(path)
    odd = [str(k) for k, v in state.items() if not (isinstance(k, str) and torch.is_tensor(v))]
    if odd:
        raise WeightsError(f"{path} holds more than tensors: {', '.join(odd[:5])}")
    odd = [name for name, tensor in state.items() if not _is_plain(tensor)]
    if odd:
        raise WeightsError(
            f"{path} holds sparse, quantised or other tensors that aren't plain numbers: "
            + ", ".join(odd[:5])
        )
    if sum(tensor.nbytes for tensor in state.values()) > 2 * size:  # 2: a tied head
        raise WeightsError(f"{path}: its tensors claim more numbers than are in the file")
    shapes = {name: tensor.shape for name, tensor in state.items()}
    if not zipfile.is_zipfile(path):  # the format before 2020 can't be mapped: it stays in memory
        return StoredWeights(path, [path], shapes, state.__getitem__)
    del state  # opened anew for each tensor, as above
    return StoredWeights(path, [path], shapes, lambda name: _torch_state(path)[name])


def _is_plain(tensor):
    special = tensor.is_quantized or tensor.is_meta or tensor.is_nested
    return tensor.layout is torch.strided and not special


def _check_archive(path, size):
    """WeightsError for a zip that torch.save never writes, or that was damaged since."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if packed or sum(part.file_size for part in parts) > size:
                raise WeightsError(f"{path} is packed, as torch.save never does: it is not opened")
            damaged = archive.testzip()  # torch doesn't look at the checksums that it wrote itself
            for part in parts if damaged is None else ():
                if part.filename.endswith(".pkl"):
                    if part.file_size > LONGEST_PICKLE:
                        raise WeightsError(f"{path} holds too much that is no tensor")
                    _check_pickles(path, archive.read(part))
    except WeightsError:
        raise
    except Exception as error:  # zipfile has many
        damaged = error
    if damaged:
        raise WeightsError(f"{path} is damaged (in {damaged}): get it or save it again")


def _check_pickles(path, data):
    """WeightsError for the one thing that torch lets take any memory: bytes by their number."""
    stream, words = io.BytesIO(data), []
    with suppress(ValueError), warnings.catch_warnings():  # no more pickles: torch will say so
        warnings.simplefilter("ignore")
        while True:  # the old format has several, one after the other
            words += (word for op, word, _ in pickletools.genops(stream) if op.name == "GLOBAL")
    if any("bytearray" in word for word in words):
        raise WeightsError(f"{path} holds more than tensors: a bytearray")


def _torch_state(path):
    """The state dict, mapped from the file where its format allows that."""
    try:
        with warnings.catch_warnings():  # about old pickles, which are refused below
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)  # torch.save's format since 2020
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} holds more than tensors, or is no file of torch.save: it is not opened, since "
            "a pickle can run any program. Save only the state dict: "
            "torch.save(model.state_dict(), PATH)"
        ) from None
    except FileNotFoundError:
        raise
    except Exception as error:  # bytes that are no weights make torch fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} can't be read ({reason}): get it or save it again") from None
    for key in ("model_state_dict", "state_dict"):  # the book's, Lightning's
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no state dict, but {type(state).__name__}")
    return state


def read_config_beside(path):
    """config.json of the folder in which weights lie; None if there is none."""
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        return None
    try:
        check_size(file, MAX_CONFIG_BYTES)
        config = read_json(file)
    except ValueError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(config, dict):
        raise WeightsError(f"{file} is not a JSON object")
    return config
