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
