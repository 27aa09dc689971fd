"""Contests take turns, and only those that may stay away are left out."""

import pytest

from benchmarks import harness, peers


class Contestant:
    """Stands for `harness.Worker`: "broken" ends before its first line."""

    def __init__(self, module, *arguments):
        self.name = arguments[1]
        if self.name == "broken":
            raise RuntimeError("ended: -4")
        self.first = {"tokens": [self.name]}
        self.n_turns = 0

    def turn(self):
        self.n_turns += 1
        return {"speed": self.n_turns}

    def close(self):
        pass


@pytest.fixture(autouse=True)
def contestants(monkeypatch):
    monkeypatch.setattr(harness, "Worker", Contestant)


def test_an_optional_contestant_that_cannot_start_is_named_and_left_out(capsys):
    contestants = [("ours",), ("broken",), ("peer",)]
    first, turns = harness.in_turns("module", contestants, (), 2, optional=[("broken",)])
    assert list(first) == list(turns) == [("ours",), ("peer",)]
    assert turns[("ours",)] == [{"speed": 2}, {"speed": 3}]  # the first turn only warms up
    assert "broken takes no part: ended: -4" in capsys.readouterr().out


def test_any_other_contestant_that_cannot_start_ends_the_contest():
    with pytest.raises(RuntimeError, match="ended: -4"):
        harness.in_turns("module", [("ours",), ("broken",)], (), 2)


def test_the_bandwidth_is_that_of_reading_a_matrix():
    """On any machine between a slow disk and the fastest memory."""
    assert 1e8 < harness.bandwidth(n_bytes=2**24, tries=3) < 1e13


def test_missing_peers_are_named_with_the_commands_that_install_them(monkeypatch):
    monkeypatch.setattr(peers, "PACKAGES", ("json", "no_such_package", "nor_this"))
    with pytest.raises(SystemExit, match="no_such_package, nor_this") as ended:
        peers.require_peers()
    assert "requirements-bench.txt" in str(ended.value)
    monkeypatch.setattr(peers, "PACKAGES", ("json",))
    peers.require_peers()
