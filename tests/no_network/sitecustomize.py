"""Put on PYTHONPATH, this cuts the network off for a whole Python process: the tests' promise."""

import socket

_connect = socket.socket.connect


def _refuse(self, address):
    host = address[0] if isinstance(address, tuple) else None
    if host in (None, "localhost", "127.0.0.1", "::1"):  # None: a Unix socket
        return _connect(self, address)
    raise ConnectionRefusedError(f"the tests run without a network, but something asked for {host}")


socket.socket.connect = _refuse
