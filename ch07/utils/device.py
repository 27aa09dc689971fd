"""The device, the number format, the free memory and the versions that a run uses."""

import os
from pathlib import Path

import psutil
import torch
import torch.distributed as dist


def choose_device(name="auto"):
    """A torch.device: "auto" is CUDA where there is one, else the CPU; ValueError if not usable.

    Apple's "mps" must be asked for: some of its kernels give other numbers than the CPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} can't be used here: {reason}") from None
    return torch.device(name)


def choose_dtype(name, device):
    """ "float32" or "bfloat16": "auto" is bfloat16 where the processor has units for it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if device.type == "cpu" and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16():
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); without, it is slow."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def available_memory(device):
    """Bytes that a program may still take: of the GPU, else of the machine or its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")  # a container's own limit (Linux, control groups version 2)

    def said(what):
        return (group / f"memory.{what}").read_text(encoding="utf-8")

    try:
        stat = dict(line.split() for line in said("stat").splitlines())
        idle = int(stat["inactive_file"])  # files that were read: Linux gives this back
        return min(free, int(said("max")) - int(said("current")) + idle)
    except (OSError, ValueError, KeyError):  # not there, or "max": no limit
        return free


def versions(device):
    """What a run's numbers may depend on."""
    import platform

    import tiktoken

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tiktoken": tiktoken.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "ranks": dist.get_world_size() if dist.is_initialized() else 1,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
