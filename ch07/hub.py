"""Published weights from the Hugging Face Hub: fetched once, checked each time, never guessed.

The one idea: `huggingface_hub` does the fetching (cache, mirrors, progress, going on after a
broken connection); here every way in which that can fail becomes a sentence, and a file whose
hash isn't the published one is never given to anybody.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ch07.files import sha256_of

FILE = "model.safetensors"


@dataclass(frozen=True)
class Published:
    """A checkpoint on the Hub: its repository, and the hash and rough size of its one file."""

    repository: str
    sha256: str  # as the Hub's page of the file shows it
    n_bytes: int  # for the free space alone


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


class DownloadError(OSError):
    """Published weights can't be had; the message says why, and what to do."""


def download(name):
    """The path of a published size's weights: from the cache, else from the Hub.

    Its sha256 is checked each time; a damaged file is fetched again, once.
    """
    path = fetch(name)
    if sha256_of(path) == PUBLISHED[name].sha256:
        return path
    os.remove(os.path.realpath(path))  # the cache holds a link to the file itself
    Path(path).unlink(missing_ok=True)
    path = fetch(name)
    if sha256_of(path) != PUBLISHED[name].sha256:
        raise DownloadError(
            f"{name}: {path} ({os.path.getsize(path):,} bytes) isn't the published file: its "
            f"sha256 differs, also after a second download. It isn't used. Is {_endpoint()} the "
            f"Hub, or a true mirror of it? {_by_hand(name)}"
        )
    return path


def fetch(name):
    """The path in `huggingface_hub`'s cache, after a download if need be; not checked yet."""
    import httpx2
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    published = PUBLISHED[name]
    endpoint = _endpoint()
    cache = constants.HF_HUB_CACHE
    try:
        cached = hf_hub_download(published.repository, FILE, cache_dir=cache, local_files_only=True)
        return cached
    except LocalEntryNotFoundError:
        pass
    if constants.is_offline_mode():
        raise DownloadError(
            f"{name} isn't in {cache}, and HF_HUB_OFFLINE forbids to fetch it. {_by_hand(name)}"
        )
    _check_endpoint(endpoint)
    _check_space(name, cache)
    try:
        return hf_hub_download(published.repository, FILE, cache_dir=cache, endpoint=endpoint)
    except LocalEntryNotFoundError as error:
        reason = _first_line(error.__cause__ or error)
        raise DownloadError(
            f"{name} isn't in {cache}, and {endpoint} gave no answer that helps ({reason}): is "
            f"there a network? {_by_hand(name)}"
        ) from error
    except HfHubHTTPError as error:
        raise DownloadError(
            f"{name}: {endpoint} doesn't give {published.repository}/{FILE} "
            f"({_first_line(error)}): is HF_ENDPOINT a mirror that holds it? {_by_hand(name)}"
        ) from error
    except HFValidationError as error:
        raise DownloadError(f"{name}: {_first_line(error)}") from error
    except (httpx2.HTTPError, OSError) as error:
        if getattr(error, "errno", None) == 28:  # no space left on device
            raise DownloadError(f"{name}: the disk of {cache} is full; {_space(name)}") from error
        raise DownloadError(
            f"the download of {name} broke off ({_first_line(error)}); nothing of it is used. "
            f"Run the same command again. {_by_hand(name)}"
        ) from error


def _endpoint():
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _check_endpoint(endpoint):
    """Weights come over https only, so that nobody on the way can change them."""
    parts = urlsplit(endpoint)
    if parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    ):
        return
    raise DownloadError(
        f"HF_ENDPOINT is {endpoint!r}, but must begin with https:// (or be this machine's own)"
    )


def _check_space(name, cache):
    """Said before the first byte, not after the last that fits."""
    place = Path(cache)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < PUBLISHED[name].n_bytes:
        raise DownloadError(f"{name}: {place} has {free / 1e6:,.0f} MB free, but {_space(name)}")


def _space(name):
    n = PUBLISHED[name].n_bytes / 1e6
    return f"the file has {n:,.0f} MB: make room, or set HF_HOME to a folder on another disk"


def _by_hand(name):
    url = f"https://huggingface.co/{PUBLISHED[name].repository}/resolve/main/{FILE}"
    return f"By hand: download {url} on any machine, and give its path: --model PATH/{FILE}"


def _first_line(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
