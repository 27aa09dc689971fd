"""The machine is asked, never assumed."""

import pytest
import torch

from ch07 import machine


def test_auto_follows_what_the_processor_says(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, expected in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
        ({}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c)
        assert machine.choose_dtype("auto", cpu) == expected
        assert machine.choose_dtype("float32", cpu) == "float32"
        assert machine.choose_dtype("bfloat16", cpu) == "bfloat16"
    assert machine.choose_dtype("auto", torch.device("meta")) == "float32"


def test_keeping_freed_memory_is_possible_or_not_but_never_an_error(monkeypatch):
    assert machine.keep_freed_memory() in (True, False)

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", missing)
    assert machine.keep_freed_memory() is False


def test_devices():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert machine.choose_device("auto").type == expected
    assert machine.choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'quantum' can't be used here"):
        machine.choose_device("quantum")
