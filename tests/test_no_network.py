"""The guard that keeps the tests off the network does refuse, here and in other processes."""

import socket

import pytest


def test_a_connection_elsewhere_is_refused():
    with socket.socket() as one, pytest.raises(ConnectionRefusedError, match="without a network"):
        one.connect(("192.0.2.1", 80))
    with pytest.raises(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_also_in_a_process_of_its_own(run_command):
    done = run_command("-c", "import socket; socket.create_connection(('192.0.2.1', 80))")
    assert done.returncode == 1 and "without a network" in done.stderr
