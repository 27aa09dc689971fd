"""The device and the number format follow from the hardware that is there."""

import pytest
import torch

from ch07.utils import device


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_bfloat16_units_are_those_that_the_processor_names(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.has_bfloat16_units(torch.device("cpu")) == expected
    assert not device.has_bfloat16_units(torch.device("meta"))


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
