"""The device and the number format follow from the hardware that is there."""

import pytest
import torch

from ch07.utils import device


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


def test_devices():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert device.choose_device("auto").type == expected
    assert device.choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'quantum' can't be used here"):
        device.choose_device("quantum")


def test_a_container_has_its_own_memory_limit(monkeypatch, tmp_path):
    """Its limit minus what is used, where the cache of files read doesn't count as used."""
    monkeypatch.setattr(device, "CONTROL_GROUP", tmp_path)
    without_limit = device.available_memory(torch.device("cpu"))
    for name, text in (("max", "9000"), ("current", "5000"), ("stat", "anon 1\ninactive_file 700")):
        (tmp_path / f"memory.{name}").write_text(text, encoding="utf-8")
    assert device.available_memory(torch.device("cpu")) == 4700 < without_limit
    (tmp_path / "memory.max").write_text("max", encoding="utf-8")
    assert device.available_memory(torch.device("cpu")) > 4700
