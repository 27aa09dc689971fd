"""The machine is asked, never assumed."""

import sys

import pytest
import torch

from ch07.utils import device
from ch07.utils.malloc_tuning import keep_freed_memory


def test_auto_follows_what_the_processor_says(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, expected in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
        ({}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c)
        assert device.choose_dtype("auto", cpu) == expected
        assert device.choose_dtype("float32", cpu) == "float32"
        assert device.choose_dtype("bfloat16", cpu) == "bfloat16"
    assert device.choose_dtype("auto", torch.device("meta")) == "float32"


def test_keeping_freed_memory_is_possible_or_not_but_never_an_error(monkeypatch):
    assert keep_freed_memory() in (True, False)

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(device.ctypes, "CDLL", missing)
    assert keep_freed_memory() is False


def test_devices():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert device.choose_device("auto").type == expected
    assert device.choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'quantum' can't be used here"):
        device.choose_device("quantum")


SHAPES = """
import ctypes, sys, torch
from ch07.utils.malloc_tuning import limit_kernel_cache

class Heap(ctypes.Structure):  # glibc's mallinfo2
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

heap = ctypes.CDLL("libc.so.6").mallinfo2
heap.restype = Heap
if sys.argv[1] == "forget":
    forget_old_shapes()
weight = torch.ones(256, 256, dtype=torch.bfloat16)
used = []
for n in range(600):
    torch.ones(n + 1, 256, dtype=torch.bfloat16) @ weight
    used.append(heap().uordblks)
print(used[-1] - used[100])
"""


@pytest.mark.skipif(sys.platform != "linux" or not device.cpu_has_bfloat16(), reason="oneDNN's")
def test_kernels_of_old_shapes_are_forgotten(run_command, monkeypatch):
    """Five hundred more shapes of a matrix product take no memory; without, 0.28 GB here."""
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        monkeypatch.delenv(cache, raising=False)  # another test may have trained in this process
    forgotten, kept = (int(run_command("-c", SHAPES, way).stdout) for way in ("forget", "keep"))
    assert forgotten < 5e6 < 50e6 < kept
