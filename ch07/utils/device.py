"""The hardware of a run: device, number format, free memory, and the versions to record."""

import os
import platform

import torch
import torch.distributed as dist

from ch07.utils.errors import InputError
from ch07.utils.memory import free_memory


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA if there is one, else the CPU.

    ValueError if it can't be used here. Apple's "mps" is never chosen by "auto", since some of its
    kernels compute other numbers than the CPU's.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} can't be used here: {reason}") from None
    return torch.device(name)


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware, on a CPU with AVX512-BF16 or AMX.

    Without such units bfloat16 is hopelessly slow. With them it is usually, but not always, faster
    than float32: see `ch07.utils.compute_choice`.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def available_memory(device: torch.device) -> int:
    """Free memory in bytes: of the GPU, else of the machine or the container that we run in."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory()


def versions(device: torch.device) -> dict[str, str | int | None]:
    """Everything about software and hardware on which a run's numbers may depend."""
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
