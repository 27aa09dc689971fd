"""A model behind a real server on this machine, in a thread, for the tests of serving."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

import torch

from ch07.data.tokenizer import end_token_id, load_tokenizer
from ch07.generation.continuous_batching import ContinuousBatch
from ch07.models.saved_run import TrainedModel
from ch07.serving.app import Service, make_app
from ch07.serving.engine_thread import EngineThread
from ch07.serving.http_server import make_server, open_socket, url_of
from ch07.serving.security import AccessRules, names_of_this_machine
from gpt_model import GPTModel
from instruction_dataset import BOOK_STYLE

SINGLE = None
REMEMBERS = {"turns": 4, "system": True}
DEADLINE = 60  # seconds, generous: machines differ


@lru_cache
def untrained_model(context_length=256):
    """A narrow GPT-2 whose answers are long and differ with the prompt."""
    shape = {"vocab_size": 50257, "context_length": context_length, "emb_dim": 16}
    stream = torch.Generator().manual_seed(3)
    model = GPTModel({**shape, "n_heads": 2, "n_layers": 2}, stream)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=stream))
    return model.eval()


def trained(name="small", conversations=SINGLE, model=None):
    """That model with GPT-2's tokenizer and the book's style."""
    model = untrained_model() if model is None else model
    return TrainedModel(name, model, load_tokenizer(), BOOK_STYLE, conversations)


class PausedBatch(ContinuousBatch):
    """A batch that does a step only when the test allows it; meanwhile its thread obeys."""

    def __init__(self, run, max_rows=4):
        super().__init__(run.model, max_rows, end_id=-1)
        self._allowed = threading.Semaphore(0)
        self.has_paused = True

    def allow(self, n_steps):
        self.has_paused = False
        self._allowed.release(n_steps)

    def step(self):
        if self._allowed.acquire(timeout=0.01):
            return super().step()
        self.has_paused = True
        return self._remove_stopped()


class Served:
    """A server that runs: its address, and what is behind it."""

    def __init__(self, service, server, url):
        self.service = service
        self.engine = service.engine
        self.server = server
        self.url = url
        self.port = urlsplit(url).port

    def request(self, method, path, body=None, headers=None, timeout=DEADLINE):
        """(status, headers, body) of a request with the standard library's client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        """(status, JSON) of a POST with a JSON body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        status, _, answer = self.request("POST", path, data, headers)
        return status, json.loads(answer)

    def chat(self, *texts, **options):
        """(status, JSON) of a conversation: the user and the model speak in turns."""
        return self.post("/v1/chat/completions", chat_body(*texts, **options))

    def wait_until_idle(self):
        """Until no answer is being written."""
        wait_until(lambda: self.engine.n_open == 0)


def chat_body(*texts, **options):
    roles = ["user", "assistant"]
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"model": "small", "messages": messages, **options}


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@contextmanager
def serving(run=None, *, max_rows=4, queue=8, time_limit=DEADLINE, key=None, batch=None, **options):
    """A `Served` while the block lasts."""
    run = run or trained()
    failures = []
    batch = batch or ContinuousBatch(run.model, max_rows, end_id=end_token_id(run.tokenizer))
    engine = EngineThread(batch, run.tokenizer, max_waiting=queue, report=failures.append)
    service = Service(run, engine, time_limit, **options)
    app = make_app(service, AccessRules(names_of_this_machine("127.0.0.1"), key))
    with open_socket("127.0.0.1", 0) as opened:
        started = threading.Event()
        server = make_server(app, lambda: engine.end_answers("shutdown"), started.set)
        server.config.timeout_keep_alive = 1
        thread = threading.Thread(target=server.run, args=([opened],), daemon=True)
        url = url_of(opened)
        thread.start()
        assert started.wait(DEADLINE)
        served = Served(service, server, url)
        served.failures = failures
        served.thread = thread
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join(DEADLINE)
            assert not thread.is_alive()
