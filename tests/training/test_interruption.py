"""A run is asked to stop by any signal, and made to by a second Ctrl-C alone."""

import os
import signal

import pytest

from ch07.training.interruption import stop_on_signal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("first", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_what_is_told_twice_by_a_system_is_told_once(first):
    """torchrun passes on a SIGTERM that each process has had already."""
    said = []
    with stop_on_signal(said.append) as asked:
        assert not asked()
        for name in (first, "SIGTERM", "SIGTERM"):
            send(name)
        assert asked() and len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
