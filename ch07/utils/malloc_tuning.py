"""How freed memory and compiled kernels are kept between steps: glibc and oneDNN settings."""

import ctypes
import os
from contextlib import suppress

KERNEL_CACHE_SIZE = "8"  # at once in use: one layer, forward or backward
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4  # glibc's malloc.h


def keep_freed_memory():
    """Let malloc keep what is freed; True where that could be set (Linux with glibc).

    A training step frees and asks for the same large blocks again and again. By default they go
    back to Linux each time, which then clears them page by page: a quarter of the whole step.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def limit_kernel_cache():
    """Let PyTorch keep the kernels of a few shapes only, of those that its CPU library compiles.

    oneDNN compiles a kernel for each shape of a matrix product and keeps the last 1,024, in two
    caches. Batches here have ever other shapes, so those were never used again, and grew to 2 GB;
    and each one, lying between large blocks that were freed, kept these from being used as one.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, KERNEL_CACHE_SIZE)


def release_freed_memory():
    """Give back what `keep_freed_memory` kept, where another kind of work begins."""
    with suppress(OSError, AttributeError):  # not Linux with glibc: nothing was kept
        ctypes.CDLL("libc.so.6").malloc_trim(0)
