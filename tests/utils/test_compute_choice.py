"""Number format and threads are measured: the fastest wins, and ties go to the first."""

import subprocess
import sys

import pytest
import torch

from ch07.utils import compute_choice
from ch07.utils.compute_choice import (
    TRIES,
    choose_compute,
    fastest,
    thread_counts,
    time_in_turns,
)

CPU = torch.device("cpu")


class Machine:
    """A clock that work moves on: each piece takes what `speeds` says for its candidate."""

    def __init__(self, **seconds):
        self.now = 0.0
        self.seconds = seconds
        self.done = []

    def __call__(self):
        return self.now

    def work(self):
        return {name: lambda name=name: self.run(name) for name in self.seconds}

    def run(self, name):
        taken = self.seconds[name]
        self.now += taken(len(self.done)) if callable(taken) else taken
        self.done.append(name)


def test_candidates_take_turns_until_time_is_over():
    machine = Machine(a=0.25, b=0.5)
    assert time_in_turns(machine.work(), 7.5, machine) == {"a": 0.25, "b": 0.5}
    assert machine.done == ["a", "b"] * (1 + 10)  # a warm-up, then 7.5 s in rounds of 0.75 s


def test_a_hopeless_candidate_is_not_tried_again():
    machine = Machine(fast=0.01, slow=5.0)
    times = time_in_turns(machine.work(), 0.3, machine)
    assert machine.done.count("slow") == 1 + TRIES  # untimed, then timed
    assert fastest(times) == "fast"


@pytest.mark.parametrize("which", range(10))
def test_an_interruption_of_one_piece_of_work_decides_nothing(which):
    """Another process that takes the core once doesn't count, whenever that is."""
    interrupted = Machine(a=lambda n: 0.5 if n == which else 0.01, b=0.015)
    assert fastest(time_in_turns(interrupted.work(), 0.5, interrupted)) == "a"


@pytest.mark.parametrize("slow", [0, 1])
def test_what_is_loaded_at_first_use_decides_nothing(slow):
    """Libraries, which the first candidate loads; kernels, which each compiles."""
    usual = {"a": 0.25, "b": 0.5}
    machine = Machine()
    machine.seconds = {
        "a": lambda n: 2.0 if n == slow else usual["a"],
        "b": lambda n: 2.0 if n == slow else usual["b"],
    }
    assert time_in_turns(machine.work(), 3.0, machine) == usual


def test_a_single_candidate_is_not_repeated():
    machine = Machine(only=0.01)
    assert fastest(time_in_turns(machine.work(), 0.3, machine)) == "only"
    assert machine.done == ["only"] * (1 + TRIES)


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(1.0, 0.5, "bfloat16"), (1.0, 0.99, "float32"), (1.0, 1.0, "float32"), (0.6, 1.0, "float32")],
)
def test_bfloat16_has_to_be_faster(float32, bfloat16, expected):
    assert fastest({"float32": float32, "bfloat16": bfloat16}) == expected


# --- the choice itself, on a machine of known speed -----------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A machine whose speed depends on threads and format as a test says."""
    clock = Machine()
    clock.speed = {}
    before = torch.get_num_threads()

    def work(dtype):
        clock.now += 0.01 / clock.speed[torch.get_num_threads(), dtype]
        clock.done.append((torch.get_num_threads(), dtype))

    clock.make_work = lambda: work
    monkeypatch.setattr(compute_choice, "AVAILABLE_THREADS", 2)
    yield clock
    assert torch.get_num_threads() == before  # measuring leaves the threads as they were


def with_units(monkeypatch, yes):
    monkeypatch.setattr(compute_choice, "has_bfloat16_units", lambda device: yes)


@pytest.mark.parametrize(
    ("speed", "threads", "dtype"),
    [
        # an AMD EPYC with bfloat16 units, quiet
        ({(2, "float32"): 2, (1, "float32"): 1, (2, "bfloat16"): 4}, 2, "bfloat16"),
        # a Xeon whose units are slower than its float32
        ({(2, "float32"): 2, (1, "float32"): 1, (2, "bfloat16"): 1.2}, 2, "float32"),
        # beside a busy process two threads wait for each other
        ({(2, "float32"): 0.6, (1, "float32"): 1, (1, "bfloat16"): 2}, 1, "bfloat16"),
        ({(2, "float32"): 0.6, (1, "float32"): 1, (1, "bfloat16"): 0.5}, 1, "float32"),
    ],
)
def test_the_fastest_combination_is_chosen(monkeypatch, machine, speed, threads, dtype):
    with_units(monkeypatch, True)
    machine.speed = speed
    choice = choose_compute(CPU, machine.make_work, clock=machine)
    assert (choice.threads, choice.dtype) == (threads, dtype)
    assert "times as fast" in choice.reason
    assert machine.now < 1.0


def test_what_is_given_is_not_measured(monkeypatch, machine):
    with_units(monkeypatch, True)
    choice = choose_compute(CPU, machine.make_work, "bfloat16", 1, clock=machine)
    assert (choice.threads, choice.dtype, choice.reason) == (1, "bfloat16", "")
    assert not machine.done


def test_work_is_made_once_and_only_if_something_is_measured(monkeypatch, machine):
    made = []

    def make_work():
        made.append(1)
        return machine.make_work()

    with_units(monkeypatch, False)
    machine.speed = {(2, "float32"): 2, (1, "float32"): 1}
    choose_compute(CPU, make_work, "auto", 2, clock=machine)
    choose_compute(torch.device("meta"), make_work, "float32", clock=machine)
    assert not made
    with_units(monkeypatch, True)
    machine.speed[2, "bfloat16"] = 3
    choose_compute(CPU, make_work, clock=machine)
    assert made == [1]


def test_without_units_bfloat16_is_not_even_tried(monkeypatch, machine):
    with_units(monkeypatch, False)
    machine.speed = {(2, "float32"): 2, (1, "float32"): 1}
    choice = choose_compute(CPU, machine.make_work, clock=machine)
    assert choice.reason == "1 thread: 0.5 times as fast"
    assert {dtype for _, dtype in machine.done} == {"float32"}


def test_any_number_of_cores_gives_counts_in_order_of_preference():
    for n in range(1, 70):
        counts = thread_counts(n)
        assert counts[0] == n and counts[-1] == 1 and counts == sorted(set(counts), reverse=True)


# --- how threads wait -----------------------------------------------------------------------------

SHOW = "import os, {first}; import ch07; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("first", "environment", "expected"),
    [
        ("sys", {}, "1000"),
        ("sys", {"GOMP_SPINCOUNT": "7"}, "7"),  # the user has decided
        ("sys", {"OMP_WAIT_POLICY": "active"}, "None"),
        ("torch", {}, "None"),  # too late: OpenMP has read it already
    ],
)
def test_importing_the_workshop_shortens_waiting_unless_the_user_decides(
    first, environment, expected
):
    result = subprocess.run(
        [sys.executable, "-c", SHOW.format(first=first)],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == expected


def clean_environment():
    import os

    from ch07.utils.openmp import SET_BY_USER

    return {name: value for name, value in os.environ.items() if name not in SET_BY_USER}
