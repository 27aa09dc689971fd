"""Published weights from the Hugging Face Hub: downloaded once, verified each time.

`huggingface_hub` provides cache, mirrors, progress and retries. This module turns every failure of
a download into a one-line error, and never returns a file whose hash isn't the published one.
"""

import errno
import io
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from ch07.utils.atomic_files import sha256_of
from ch07.utils.errors import UserError
from ch07.utils.hosts import LOCAL_HOSTS
from ch07.utils.paths import nearest_existing_folder

WEIGHTS_FILE = "model.safetensors"  # the only file that is downloaded from each repository
DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_REASON_CHARACTERS = 300  # of another library's message that is quoted in ours
SHA = re.compile("[0-9a-f]{40,64}")  # of a commit or a file, as the Hub names them
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """A checkpoint on the Hub: its repository, and the hash and size of its weights file."""

    repository: str
    sha256: str  # as the Hub's page of the file shows it
    n_bytes: int  # to check the free disk space, and that a server sends no more


PUBLISHED = {
    "gpt2-small": Published(
        "openai-community/gpt2",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        548_105_171,
    ),
    "gpt2-medium": Published(
        "openai-community/gpt2-medium",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        1_519_984_962,
    ),
    "gpt2-large": Published(
        "openai-community/gpt2-large",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        3_247_159_078,
    ),
    "gpt2-xl": Published(
        "openai-community/gpt2-xl",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        6_431_829_964,
    ),
}


class DownloadError(UserError, OSError):
    """Published weights can't be downloaded; the message says why, and what to do."""


def download(name: str) -> str:
    """The path of a published size's weights, from the cache or from the Hub.

    The sha256 is checked each time. A damaged file is kept until a complete one replaces it.
    DownloadError says what went wrong.
    """
    path = cached(name)
    if path is not None and sha256_of(path) == PUBLISHED[name].sha256:
        return path
    if path is not None:
        log.warning("%s is damaged (its sha256 differs): downloading it again", path)
    return fetch(name)


def cached(name: str) -> str | None:
    """The path of the file in `huggingface_hub`'s cache, not verified; None if it isn't there."""
    from huggingface_hub import constants, try_to_load_from_cache

    repository = PUBLISHED[name].repository
    found = try_to_load_from_cache(repository, WEIGHTS_FILE, constants.HF_HUB_CACHE)
    return found if isinstance(found, str) else None


def fetch(name: str) -> str:
    """Download into the cache, resuming an interrupted download; return the verified file's path.

    DownloadError for everything that can go wrong on the way.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    cache = constants.HF_HUB_CACHE
    endpoint = _endpoint()
    if constants.is_offline_mode():
        raise DownloadError(
            f"{name} isn't in {cache}, or is incomplete, and HF_HUB_OFFLINE forbids downloading "
            f"it. {_manual_download(name)}"
        )
    _check_endpoint(endpoint)
    _check_space(name, cache)
    server = _without_password(endpoint)
    try:
        return _download_to_cache(name, cache, endpoint)
    except DownloadError:
        raise
    except HfHubHTTPError as error:
        raise DownloadError(
            f"{name}: {server} doesn't serve {PUBLISHED[name].repository}/{WEIGHTS_FILE} "
            f"({_reason(error)}): {_advice(error)} {_manual_download(name)}"
        ) from error
    except (NotADirectoryError, PermissionError, FileExistsError) as error:
        raise DownloadError(
            f"the cache {cache} can't be used ({_reason(error)}): set HF_HOME to a folder that can "
            "be written to"
        ) from error
    except Exception as error:  # several libraries' errors, for network, certificate or disk
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            advice = _space_advice(name)
            raise DownloadError(f"{name}: the disk of {cache} is full; {advice}") from error
        raise DownloadError(
            f"{name} could not be downloaded from {server} ({_reason(error)}): is there a network "
            f"connection? The same command resumes the download. {_manual_download(name)}"
        ) from error


def _download_to_cache(name: str, cache: str, endpoint: str) -> str:
    """Put the verified file where `huggingface_hub` and its users look for it; return its path.

    The library's own download starts over with each command. For gigabytes over a weak network, we
    keep the part that has arrived. The weights are public, so no token is sent.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock

    repository = PUBLISHED[name].repository
    url = hf_hub_url(repository, WEIGHTS_FILE, endpoint=endpoint)
    etag, commit, size = _checked_metadata(
        get_hf_file_metadata(url, token=False, endpoint=endpoint)
    )
    repository_folder = Path(cache) / repo_folder_name(repo_id=repository, repo_type="model")
    blob = repository_folder / "blobs" / etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(repository_folder / "ch07.lock"):
        partial = blob.with_name(f"{blob.name}.ch07-partial")
        _download_rest(partial, name, url, size)
        os.replace(partial, blob)
        (repository_folder / "snapshots" / commit / WEIGHTS_FILE).unlink(missing_ok=True)
    # The file is there, so this only creates the links to it, unless the server has a newer one by
    # now, which is then verified.
    path = hf_hub_download(
        repository, WEIGHTS_FILE, cache_dir=cache, endpoint=endpoint, token=False
    )
    if os.path.realpath(path) != os.path.realpath(blob):
        _check_hash(name, path)
    return path


def _checked_metadata(metadata: Any) -> tuple[str, str, int]:
    """(etag, commit, size); OSError unless the names can safely become parts of paths."""
    etag = metadata.etag or ""
    commit = metadata.commit_hash or ""
    size = metadata.size or 0
    if not SHA.fullmatch(etag) or not SHA.fullmatch(commit) or size < 1:
        raise OSError("the server is not a Hugging Face Hub")
    return etag, commit, size


def _download_rest(partial: Path, name: str, url: str, size: int) -> None:
    """Download the missing rest of `partial`; if the result is wrong, start over once."""
    from huggingface_hub.file_download import http_get

    attempts = 2
    for attempt in range(attempts):
        if partial.exists() and partial.stat().st_size > size:
            partial.unlink()
        try:
            with _LimitedFile(partial, name) as file:
                http_get(
                    url,
                    file,
                    resume_size=file.tell(),
                    expected_size=size,
                    displayed_filename=name,
                    tqdm_class=tqdm,
                )
            _check_hash(name, partial)
            return
        except DownloadError:
            partial.unlink()
            if attempt == attempts - 1:
                raise


class _LimitedFile(io.BufferedWriter):
    """A file to append to, of at most the published size: `http_get` writes whatever arrives."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._name = name

    def write(self, data: Any) -> int:
        n_bytes = PUBLISHED[self._name].n_bytes
        if self.tell() + len(data) > n_bytes:
            raise DownloadError(
                f"{self._name}: {_without_password(_endpoint())} sends more than the {n_bytes:,} "
                "bytes of the published file, so it isn't used. Is this the Hub, or a faithful "
                f"mirror of it? {_manual_download(self._name)}"
            )
        return super().write(data)


def _check_hash(name: str, path: str | Path) -> None:
    if sha256_of(path) != PUBLISHED[name].sha256:
        raise DownloadError(
            f"{name}: the file from {_without_password(_endpoint())} ({os.path.getsize(path):,} "
            "bytes) isn't the published one: its sha256 differs, so it isn't used. Is this the "
            f"Hub, or a faithful mirror of it? {_manual_download(name)}"
        )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT


def _check_endpoint(endpoint: str) -> None:
    """DownloadError unless it is https, or this machine; the file's hash is checked in any case."""
    try:
        parts = urlsplit(endpoint)
        schemes = ("http", "https") if parts.hostname in LOCAL_HOSTS else ("https",)
        valid = bool(parts.hostname) and parts.scheme in schemes
    except ValueError:  # not an address at all
        valid = False
    if not valid:
        raise DownloadError(
            f"HF_ENDPOINT is {_without_password(endpoint)!r}, but must begin with https:// and "
            "name a host (http:// is allowed for this machine)"
        )


def _without_password(endpoint: str) -> str:
    return re.sub(r"//[^/@]*@", "//", endpoint)


def _check_space(name: str, cache: str) -> None:
    """DownloadError before the download starts if the disk is too small for the file."""
    folder = nearest_existing_folder(cache)
    free = shutil.disk_usage(folder).free
    if free < PUBLISHED[name].n_bytes:
        advice = _space_advice(name)
        raise DownloadError(f"{name}: {folder} has {free / 1e6:,.0f} MB free, but {advice}")


def _advice(error: Any) -> str:
    """What to do about an HTTP status."""
    status = error.response.status_code
    if status == 429 or status >= 500:
        return "try again later, or set HF_ENDPOINT to a mirror."
    return "is it the Hub, or a mirror that holds this file?"


def _space_advice(name: str) -> str:
    megabytes = PUBLISHED[name].n_bytes / 1e6
    return (
        f"the file has {megabytes:,.0f} MB: free some space, or set HF_HOME to a folder on another "
        "disk"
    )


def _manual_download(name: str) -> str:
    url = f"{DEFAULT_ENDPOINT}/{PUBLISHED[name].repository}/resolve/main/{WEIGHTS_FILE}"
    return (
        f"To do it by hand, download {url} on any machine and pass the path of the file: --model "
        f"PATH/{WEIGHTS_FILE} (for verify-weights: --path). No other file is needed."
    )


def _reason(error: Exception) -> str:
    """The first line of another library's message."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:MAX_REASON_CHARACTERS]
