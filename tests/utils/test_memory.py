"""A container's limit counts, whichever version of control groups tells it."""

import pytest
import torch

from ch07.data.entries import load_entries
from ch07.utils import memory
from ch07.utils.device import available_memory
from ch07.utils.errors import DataError
from ch07.utils.memory import free_memory
from ch07.utils.validation import MEMORY_PER_JSON_BYTE, max_json_bytes

VERSION_2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
VERSION_1 = (
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    "total_inactive_file",
)


@pytest.fixture
def container(monkeypatch, tmp_path):
    """`container(version, limit, used)` is where we run; 700 bytes of what is used are a cache."""
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path / "cgroup")

    def run_in(version, limit, used):
        limit_file, used_file, statistics, file_cache = version
        texts = {limit_file: limit, used_file: used, statistics: f"anon 1\n{file_cache} 700\n"}
        for name, text in texts.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text), encoding="utf-8")

    return run_in


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_container_has_its_own_limit(container, version):
    """Its limit minus what is used, where the cache of files that were read is not used."""
    of_the_machine = free_memory()
    container(version, limit=9000, used=5000)
    assert free_memory() == available_memory(torch.device("cpu")) == 4700 < of_the_machine
    container(version, limit=9000, used=9800)
    assert free_memory() == 0, "what is used may pass the limit for a moment"


@pytest.mark.parametrize("limit", ["max", 2**63 - 4096])
@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_container_without_a_limit_has_the_machines_memory(container, version, limit):
    container(version, limit, used=5000)
    assert free_memory() > 2**26


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_no_file_is_read_beyond_the_containers_limit(container, version, number_data):
    size = number_data.stat().st_size
    container(version, limit=5000 + size * MEMORY_PER_JSON_BYTE // 2, used=5700)
    assert max_json_bytes() < size
    with pytest.raises(DataError, match="may not fit into the free memory"):
        load_entries(number_data)
    container(version, limit=5000 + size * MEMORY_PER_JSON_BYTE * 2, used=5700)
    assert load_entries(number_data)
