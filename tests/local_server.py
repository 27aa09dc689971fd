"""A server on this machine, in a thread of its own: for whoever stands in for another one."""

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


@contextmanager
def answering(handler, **attributes):
    """The url of a server that answers with a handler class, which has these attributes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHandler", (handler,), attributes))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
