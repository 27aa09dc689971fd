"""Published weights from a Hub that may misbehave: a verified file, or a one-line error."""

import errno
import os
import time
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import COMMIT, serving
from huggingface_hub import constants, file_download
from published import SMALL, write_published

from ch07.models import hub_download as ours
from ch07.models.hub_download import PUBLISHED, DownloadError, download


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


def test_the_first_time_from_the_hub_then_from_the_cache(hub, capsys):
    path = download("gpt2-small")
    assert "gpt2-small: 100%" in capsys.readouterr().err
    assert Path(path).read_bytes() == hub.content
    where = "/openai-community/gpt2/resolve/main/model.safetensors"
    assert {asked[1] for asked in hub.asked} == {where}
    assert [asked[0] for asked in hub.asked].count("GET") == 1
    hub.manner, n = "down", len(hub.asked)
    assert download("gpt2-small") == path
    assert len(hub.asked) == n, "a file in the cache needs no network"


def test_transformers_finds_the_downloaded_file(hub):
    path = download("gpt2-small")
    theirs = huggingface_hub.hf_hub_download(
        "openai-community/gpt2", "model.safetensors", local_files_only=True, cache_dir=hub.cache
    )
    assert theirs == path and os.path.realpath(path).endswith(f"blobs/{hub.sha256}")


def test_a_second_command_resumes_the_download(hub):
    hub.breaks = 1000
    hub.give_up_after = 3
    refused("could not be downloaded", "The same command resumes the download")
    (partial,) = hub.cache.rglob("*.ch07-partial")
    here = partial.stat().st_size
    assert hub.content.startswith(partial.read_bytes()) and here > 80_000
    hub.breaks, hub.give_up_after, n = 0, None, len(hub.asked)
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    (get,) = [asked for asked in hub.asked[n:] if asked[0] == "GET"]
    assert get[2] == f"bytes={here}-"
    assert not list(hub.cache.rglob("*.ch07-partial"))


@pytest.mark.parametrize("left", ["other bytes", "too many bytes"])
def test_a_wrong_partial_file_is_downloaded_from_the_start(hub, left):
    blobs = hub.cache / "models--openai-community--gpt2" / "blobs"
    blobs.mkdir(parents=True)
    n = 5000 if left == "other bytes" else len(hub.content) + 1
    (blobs / f"{hub.sha256}.ch07-partial").write_bytes(b"?" * n)
    assert Path(download("gpt2-small")).read_bytes() == hub.content


def test_offline_with_and_without_the_file(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused(
        "isn't in",
        "or is incomplete",
        "HF_HUB_OFFLINE forbids downloading it",
        "--model PATH/model.safe",
    )
    assert "https://huggingface.co/openai-community/gpt2/resolve/main/model.safetensors" in message
    assert not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = download("gpt2-small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download("gpt2-small") == path


def test_a_mirror_that_redirects(hub):
    hub.manner = "redirect"
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    assert hub.asked[-1][1] == "/cdn/file"


@pytest.mark.parametrize("manner", ["good", "no ranges"])
def test_a_broken_connection_is_resumed(hub, manner):
    hub.breaks, hub.manner = 3, manner
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    ranges = [asked[2] for asked in hub.asked if asked[0] == "GET"]
    assert len(ranges) == 4 and ranges[0] is None and None not in ranges[1:]
    starts = [int(r.removeprefix("bytes=").strip("-")) for r in ranges[1:]]
    assert starts[0] > 80_000, "what has come isn't asked for again"


def test_a_connection_that_never_works_leaves_no_file(hub):
    hub.manner = "silent"
    refused("could not be downloaded", "is there a network connection?")
    assert not [p for p in hub.cache.rglob("model.safetensors")]


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("no repository", "is it the Hub, or a mirror that holds this file?"),
        ("no file", "is it the Hub, or a mirror that holds this file?"),
        ("forbidden", "your address is blocked"),
        ("down", "503 Service Unavailable"),
        ("down", "try again later, or set HF_ENDPOINT to a mirror"),
        ("too many", "try again later"),
        ("no hub", "the server is not a Hugging Face Hub"),
    ],
)
def test_answers_without_the_file(hub, manner, message):
    hub.manner = manner
    refused(message, hub.url, "by hand, download https://huggingface.co/openai-community/gpt2/")
    assert not kept(hub)


@pytest.mark.parametrize("name", ["X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("value", ["../../../x", "", "a" * 400])
def test_names_from_a_server_are_checked_before_they_become_paths(hub, name, value):
    hub.odd = {name: value}
    refused("the server is not a Hugging Face Hub")
    assert not list(hub.cache.parent.rglob("x")) and not kept(hub)


def test_no_server_at_the_address(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused("could not be downloaded from http://127.0.0.1:9", "is there a network connection?")


def test_an_altered_file_is_downloaded_twice_and_never_used(hub):
    hub.manner = "altered"
    refused("isn't the published one: its sha256 differs, so it isn't used")
    assert [asked[0] for asked in hub.asked].count("GET") == 2 and not kept(hub)
    hub.manner = "good"
    assert Path(download("gpt2-small")).read_bytes() == hub.content


def test_a_file_without_an_end_does_not_fill_the_disk(hub):
    hub.manner = "endless"
    refused("sends more than the", "bytes of the published file, so it isn't used")
    assert [asked[0] for asked in hub.asked].count("GET") == 2 and not kept(hub)
    hub.manner = "good"
    assert Path(download("gpt2-small")).read_bytes() == hub.content


def damaged(path, how):
    blob = Path(os.path.realpath(path))
    whole = bytearray(blob.read_bytes())
    if how == "bit":
        whole[len(whole) // 2] ^= 1
    blob.write_bytes(whole if how == "bit" else whole[: len(whole) // 2 * (how == "half")])
    return blob.read_bytes()


@pytest.mark.parametrize("how", ["bit", "half", "empty"])
def test_a_damaged_cache_is_repaired_with_a_warning(hub, how, caplog):
    path = Path(download("gpt2-small"))
    damaged(path, how)
    assert Path(download("gpt2-small")).read_bytes() == hub.content
    assert "is damaged (its sha256 differs): downloading it again" in caplog.text


def test_a_damaged_file_is_kept_until_a_complete_one_replaces_it(hub, monkeypatch):
    path = Path(download("gpt2-small"))
    rest = damaged(path, "bit")
    hub.manner = "down"
    refused("503")
    assert path.read_bytes() == rest
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("or is incomplete, and HF_HUB_OFFLINE forbids")
    assert path.read_bytes() == rest


def test_a_disk_that_is_too_small_is_reported_before_the_download(hub, monkeypatch):
    monkeypatch.setattr(ours.shutil, "disk_usage", lambda path: type("", (), {"free": 10})())
    refused("0 MB free, but the file has", "set HF_HOME to a folder on another disk")
    assert not hub.asked


def test_a_disk_that_fills_up_during_the_download(hub, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    refused("the disk of", "is full", "set HF_HOME")
    assert not kept(hub)


@pytest.mark.parametrize(
    "endpoint", ["http://example.org", "ftp://127.0.0.1", "huggingface.co", "https:", "https://["]
)
def test_only_https_or_this_machine(hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    refused(f"HF_ENDPOINT is {endpoint!r}, but must begin with https://")


def test_a_password_in_an_address_is_not_shown(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@127.0.0.1:9")
    assert "secret" not in refused("https://127.0.0.1:9")


def test_a_newer_file_that_appears_during_the_download_is_verified(hub, monkeypatch):
    """Between two requests another file became the newest: the hash is looked at again."""
    first = hub.names
    calls = []

    def names():
        calls.append(1)
        return first() if len(calls) <= 2 else {**first(), "X-Linked-Etag": f'"{"b" * 64}"'}

    hub.names = names
    original = hub.content

    def later(path):
        hub.content = b"?" * len(original)

    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (replace(a, b), later(b)))
    refused("isn't the published one")


def test_a_cache_that_is_a_file(hub, monkeypatch, tmp_path):
    (tmp_path / "file.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file.txt"))
    with pytest.raises(DownloadError, match=r"can't be used .* set HF_HOME to a folder"):
        download("gpt2-small")


def test_the_published_hashes_are_complete():
    assert len({p.sha256 for p in PUBLISHED.values()}) == 4
    assert all(len(p.sha256) == 64 and int(p.sha256, 16) for p in PUBLISHED.values())
    assert len(COMMIT) == 40
