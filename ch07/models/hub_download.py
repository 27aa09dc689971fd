"""Published weights from the Hugging Face Hub: fetched once, checked each time, never guessed.

The one idea: the parts are `huggingface_hub`'s (cache, mirrors, progress, retries); here every way
in which a download can fail becomes a sentence, and a file whose hash isn't the published one is
never given to anybody.
"""

import errno
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from ch07.utils.atomic_files import sha256_of

FILE = "model.safetensors"
log = logging.getLogger(__name__)


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

    Its sha256 is checked each time. A damaged file stays until a whole one can take its place.
    """
    path = cached(name)
    if path is not None and sha256_of(path) == PUBLISHED[name].sha256:
        return path
    if path is not None:
        log.warning("%s is damaged (its sha256 differs): it is fetched again", path)
    return fetch(name)


def cached(name):
    """The path of a file that is in `huggingface_hub`'s cache, unchecked; None if there is none."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(PUBLISHED[name].repository, FILE, constants.HF_HUB_CACHE)
    return found if isinstance(found, str) else None


def fetch(name):
    """Download into the cache, going on where an earlier try broke off; the path, checked."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    cache, endpoint = constants.HF_HUB_CACHE, _endpoint()
    if constants.is_offline_mode():
        raise DownloadError(
            f"{name} isn't in {cache}, or not whole, and HF_HUB_OFFLINE forbids to fetch it. "
            f"{_by_hand(name)}"
        )
    _check_endpoint(endpoint)
    _check_space(name, cache)
    endpoint_shown = _shown(endpoint)
    try:
        return _fetch(name, cache, endpoint)
    except DownloadError:
        raise
    except HfHubHTTPError as error:
        raise DownloadError(
            f"{name}: {endpoint_shown} doesn't give {PUBLISHED[name].repository}/{FILE} "
            f"({_first_line(error)}): {_advice(error)} {_by_hand(name)}"
        ) from error
    except (NotADirectoryError, PermissionError, FileExistsError) as error:
        raise DownloadError(
            f"the cache {cache} can't be used ({_first_line(error)}): set HF_HOME to a folder that "
            "can be written"
        ) from error
    except Exception as error:  # of sockets, certificates, disks, in types of several libraries
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"{name}: the disk of {cache} is full; {_space(name)}") from error
        raise DownloadError(
            f"{name} could not be fetched from {endpoint_shown} ({_first_line(error)}): is there a "
            f"network? The same command goes on where it stopped. {_by_hand(name)}"
        ) from error


def _fetch(name, cache, endpoint):
    """The file where `huggingface_hub` and its users look for it, once it is known to be whole.

    The library's own download begins at the first byte again with each command; for gigabytes over
    a weak network, what has come is kept here. The weights are public, so no token is sent.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock

    repository = PUBLISHED[name].repository
    url = hf_hub_url(repository, FILE, endpoint=endpoint)
    file = get_hf_file_metadata(url, token=False, endpoint=endpoint)
    names = (file.etag or "", file.commit_hash or "")  # they become parts of paths
    if not all(re.fullmatch("[0-9a-f]{40,64}", part) for part in names) or (file.size or 0) < 1:
        raise OSError("what answers isn't a Hub")
    home = Path(cache) / repo_folder_name(repo_id=repository, repo_type="model")
    blob = home / "blobs" / file.etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(home / "ch07.lock"):
        partial = blob.with_name(f"{blob.name}.ch07-partial")
        _download_whole(name, url, file.size, partial)
        os.replace(partial, blob)
        (home / "snapshots" / file.commit_hash / FILE).unlink(missing_ok=True)
    # the file is there already, so this only makes the links to it, unless the server says now
    # that another one is the newest
    path = hf_hub_download(repository, FILE, cache_dir=cache, endpoint=endpoint, token=False)
    if os.path.realpath(path) != os.path.realpath(blob):
        _check_hash(name, path)
    return path


def _download_whole(name, url, size, partial):
    """Fill `partial` with the published bytes; an old one that leads nowhere is begun again."""
    from huggingface_hub.file_download import http_get

    for _ in range(2):
        if partial.exists() and partial.stat().st_size > size:
            partial.unlink()
        with open(partial, "ab") as place:
            here = place.tell()
            http_get(
                url,
                place,
                resume_size=here,
                expected_size=size,
                displayed_filename=name,
                tqdm_class=tqdm,
            )
        try:
            return _check_hash(name, partial)
        except DownloadError as error:
            problem = error
            partial.unlink()
    raise problem


def _check_hash(name, path):
    if sha256_of(path) != PUBLISHED[name].sha256:
        raise DownloadError(
            f"{name}: what {_shown(_endpoint())} gives ({os.path.getsize(path):,} bytes) isn't the "
            "published file: its sha256 differs. It isn't used. Is this the Hub, or a true mirror "
            f"of it? {_by_hand(name)}"
        )


def _endpoint():
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _check_endpoint(endpoint):
    """Ask over https only; what comes is checked by its hash in any case."""
    try:
        parts = urlsplit(endpoint)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        good = parts.hostname and parts.scheme in (("http", "https") if here else ("https",))
    except ValueError:  # no address at all
        good = False
    if not good:
        raise DownloadError(
            f"HF_ENDPOINT is {_shown(endpoint)!r}, but must begin with https:// and name a host "
            "(or be this machine's own)"
        )


def _shown(endpoint):
    """An address without the password that may stand in it."""
    return re.sub(r"//[^/@]*@", "//", endpoint)


def _check_space(name, cache):
    """Said before the first byte, not after the last that fits."""
    place = Path(cache)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < PUBLISHED[name].n_bytes:
        raise DownloadError(f"{name}: {place} has {free / 1e6:,.0f} MB free, but {_space(name)}")


def _advice(error):
    if error.response.status_code == 429 or error.response.status_code >= 500:
        return "try again later, or set HF_ENDPOINT to a mirror."
    return "is it the Hub, or a mirror that holds it?"


def _space(name):
    n = PUBLISHED[name].n_bytes / 1e6
    return f"the file has {n:,.0f} MB: make room, or set HF_HOME to a folder on another disk"


def _by_hand(name):
    url = f"https://huggingface.co/{PUBLISHED[name].repository}/resolve/main/{FILE}"
    return (
        f"By hand: download {url} on any machine, and give its path: --model PATH/{FILE} (to "
        f"verify-weights: --path). No other file is needed: shape and vocabulary are known here"
    )


def _first_line(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:300]
