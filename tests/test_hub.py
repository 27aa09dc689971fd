"""Published weights from a Hub that may misbehave: whole, or a sentence and nothing."""

import errno
import os
import time
from pathlib import Path

import pytest
from hub_server import COMMIT, serving
from huggingface_hub import constants, file_download
from published import SMALL, write_published

from ch07 import hub as ours
from ch07.hub import PUBLISHED, DownloadError, download


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in holds a small file for gpt2-small; the cache is empty, waiting takes no time."""
    write_published(tmp_path / "file", SMALL)
    with serving((tmp_path / "file").read_bytes()) as hub:
        fake = ours.Published("openai-community/gpt2", hub.sha256, len(hub.content))
        monkeypatch.setitem(PUBLISHED, "gpt2-small", fake)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # bytes kept at a time
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        hub.cache = tmp_path / "cache"
        yield hub


def refused(*parts):
    with pytest.raises(DownloadError) as caught:
        download("gpt2-small")
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def kept(hub):
    """Files of weights in the cache, and half ones."""
    return [p for p in hub.cache.rglob("*") if p.is_file() and p.stat().st_size > 1000]


def test_once_from_the_hub_then_from_the_cache(hub):
    path = download("gpt2-small")
    assert Path(path).read_bytes() == hub.content
    where = "/openai-community/gpt2/resolve/main/model.safetensors"
    assert [asked[:2] for asked in hub.asked] == [("HEAD", where), ("GET", where)]
    hub.manner = "down"
    assert download("gpt2-small") == path
    assert len(hub.asked) == 2, "a file in the cache needs no network"


def test_offline_with_and_without_the_file(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused("isn't in", "HF_HUB_OFFLINE forbids to fetch it", "--model PATH/model.safe")
    assert "https://huggingface.co/openai-community/gpt2/resolve/main/model.safetensors" in message
    assert not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = download("gpt2-small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download("gpt2-small") == path


def test_a_mirror_that_sends_on_to_another_address(hub):
    hub.manner = "redirect"
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    assert hub.asked[-1][1] == "/cdn/file"


@pytest.mark.parametrize("manner", ["good", "no ranges"])
def test_a_connection_that_breaks_is_taken_up_again(hub, manner):
    hub.breaks, hub.manner = 3, manner
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    ranges = [asked[2] for asked in hub.asked if asked[0] == "GET"]
    assert len(ranges) == 4 and ranges[0] is None and None not in ranges[1:]
    starts = [int(r.removeprefix("bytes=").strip("-")) for r in ranges[1:]]
    assert starts[0] > 80_000, "what has come isn't asked for again"


def test_one_that_breaks_for_good_leaves_nothing_behind(hub):
    hub.breaks, hub.manner = 1000, "no ranges"
    hub.content = hub.content[:2]  # so that no byte arrives at all
    refused("broke off", "nothing of it is used", "Run the same command again")
    assert not kept(hub)


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("no repository", "is HF_ENDPOINT a mirror that holds it?"),
        ("no file", "is HF_ENDPOINT a mirror that holds it?"),
        ("forbidden", "your address is blocked"),
        ("down", "gave no answer that helps (Server error '503 Service Unavailable'"),
        ("too many", "429"),
        ("no hub", "does not seem to be served by a Hugging Face Hub endpoint"),
    ],
)
def test_answers_that_are_no_file(hub, manner, message):
    hub.manner = manner
    refused(message, hub.url, "By hand: download https://huggingface.co/openai-community/gpt2/")
    assert not kept(hub)


def test_nobody_there(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused("gave no answer that helps", "Connection refused", "is there a network?")


def test_an_altered_file_is_fetched_twice_and_never_used(hub):
    hub.manner = "altered"
    refused("isn't the published file: its sha256 differs, also after a second download")
    assert [asked[0] for asked in hub.asked] == ["HEAD", "GET"] * 2
    hub.manner = "good"
    assert Path(download("gpt2-small")).read_bytes() == hub.content


@pytest.mark.parametrize("damage", ["bit", "half", "empty"])
def test_a_cache_that_rots_is_mended(hub, damage):
    path = Path(download("gpt2-small"))
    blob = Path(os.path.realpath(path))
    whole = bytearray(blob.read_bytes())
    if damage == "bit":
        whole[len(whole) // 2] ^= 1
    blob.write_bytes(whole if damage == "bit" else whole[: len(whole) // 2 * (damage == "half")])
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    assert len(hub.asked) == 4


def test_a_full_disk_is_said_before_the_first_byte(hub, monkeypatch):
    monkeypatch.setattr(ours.shutil, "disk_usage", lambda path: type("", (), {"free": 10})())
    refused("0 MB free, but the file has", "set HF_HOME to a folder on another disk")
    assert not hub.asked


def test_a_disk_that_fills_up_meanwhile(hub, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    refused("the disk of", "is full", "set HF_HOME")
    assert not kept(hub)


@pytest.mark.parametrize("endpoint", ["http://example.org", "ftp://127.0.0.1", "huggingface.co"])
def test_only_https_or_this_machine(hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    refused(f"HF_ENDPOINT is {endpoint!r}, but must begin with https://")


def test_the_hashes_are_full_ones():
    assert len({p.sha256 for p in PUBLISHED.values()}) == 4
    assert all(len(p.sha256) == 64 and int(p.sha256, 16) for p in PUBLISHED.values())
    assert len(COMMIT) == 40
