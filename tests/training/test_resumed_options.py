"""What was chosen when a run started is what a resumed or repeated run gets."""

import pytest

from ch07.config import FinetuneOptions
from ch07.training import resume
from ch07.training.resume import options_from_run, resumed_options


def config_of(threads, dtype="bfloat16"):
    return {
        "options": {"dtype": "auto", "seed": 7},
        "settings": {"dtype": dtype},
        "facts": {"versions": {} if threads is None else {"threads": threads}},
    }


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(1, 1), (2, 2), (64, None), (None, None)],  # 64: from a machine with more cores
)
def test_a_resumed_run_computes_as_it_began(monkeypatch, stored, expected):
    monkeypatch.setattr(resume, "AVAILABLE_THREADS", 2)
    options = resumed_options(config_of(stored), {"out": "runs/1"})
    assert (options.threads, options.dtype) == (expected, "bfloat16")


def test_the_number_of_threads_may_be_given_anew():
    options = resumed_options(config_of(1), {"out": "runs/1", "threads": 3})
    assert options.threads == 3


def test_a_repeated_run_has_the_threads_and_format_of_the_first(monkeypatch, tmp_path):
    monkeypatch.setattr(resume, "AVAILABLE_THREADS", 2)
    monkeypatch.setattr(resume.run_folder, "read_config", lambda run: config_of(2, "float32"))
    options = options_from_run(tmp_path, {})
    assert (options.threads, options.dtype) == (2, "float32")
    assert FinetuneOptions().threads is None


def test_a_run_from_before_a_setting_existed_has_the_value_that_was_fixed_then():
    options = resumed_options(config_of(1), {"out": "runs/1"})
    assert (options.beta2, options.chunk_batches) == (0.95, 50)
    assert options.shared_beginning == "per-row"
