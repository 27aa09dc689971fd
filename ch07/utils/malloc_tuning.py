"""Two memory settings for training on a CPU: glibc's malloc and oneDNN's kernel cache.

Both concern memory that is freed and needed again in the next step. Neither changes a number.
"""

import ctypes
import os
from contextlib import suppress

M_TRIM_THRESHOLD = -1  # parameters of mallopt, from glibc's malloc.h
M_MMAP_MAX = -4
MAX_TRIM_THRESHOLD = 2**31 - 1  # bytes: never trim


def keep_freed_memory() -> bool:
    """Make malloc keep the memory that is freed; False where that can't be set (not glibc).

    A training step frees and allocates the same large blocks again and again. By default they go
    back to Linux each time, which then clears them page by page: a quarter of the whole step.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, MAX_TRIM_THRESHOLD))


def limit_kernel_cache(n_kernels: int) -> None:
    """Let oneDNN keep so many compiled kernels only; call before the first product.

    oneDNN compiles a kernel for each shape of a matrix product and keeps the last 1,024 in two
    caches. If the shapes of batches hardly ever repeat, the caches grow to 2 GB without being used;
    and as each kernel lies between large blocks that were freed, these can't be merged.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, str(n_kernels))


def release_freed_memory() -> None:
    """Return to the system what `keep_freed_memory` kept; call when another kind of work begins."""
    with suppress(OSError, AttributeError):  # not Linux with glibc: nothing was kept
        ctypes.CDLL("libc.so.6").malloc_trim(0)
