"""Freed memory is kept, and the kernels of old shapes are not."""

import sys

import pytest
import torch

from ch07.utils import malloc_tuning
from ch07.utils.device import has_bfloat16_units
from ch07.utils.malloc_tuning import keep_freed_memory


def test_keeping_freed_memory_is_possible_or_not_but_never_an_error(monkeypatch):
    assert keep_freed_memory() in (True, False)

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(malloc_tuning.ctypes, "CDLL", missing)
    assert keep_freed_memory() is False


SHAPES = """
import ctypes, sys, torch
from ch07.utils.malloc_tuning import limit_kernel_cache

class Heap(ctypes.Structure):  # glibc's mallinfo2
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

heap = ctypes.CDLL("libc.so.6").mallinfo2
heap.restype = Heap
if sys.argv[1] == "limited":
    limit_kernel_cache(8)
weight = torch.ones(256, 256, dtype=torch.bfloat16)
used = []
for n in range(600):
    torch.ones(n + 1, 256, dtype=torch.bfloat16) @ weight
    used.append(heap().uordblks)
print(used[-1] - used[100])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not has_bfloat16_units(torch.device("cpu")), reason="oneDNN's"
)
def test_the_kernel_cache_is_limited(run_command, monkeypatch):
    """Five hundred more shapes of a matrix product take no memory; without, 0.28 GB here."""
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        monkeypatch.delenv(cache, raising=False)  # another test may have trained in this process
    limited = int(run_command("-c", SHAPES, "limited").stdout)
    unlimited = int(run_command("-c", SHAPES, "unlimited").stdout)
    assert limited < 5e6 < 50e6 < unlimited
