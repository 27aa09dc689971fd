"""Many clients of `python -m ch07 serve` at once, compared with one client of the same server.

    python -m benchmarks.serve_load RUN [--clients 50] [--seconds 120] [--json FILE]

The server is a process of its own at 127.0.0.1. Each client sends one request after the other: half
of them questions held out from the run, half texts to continue with 64 tokens, half of each as
streams. One client alone comes first and last, for a quarter of the time each; their mean is the
"peer" of the speed. Every answer must be the one that a client alone got, and nothing may fail. The
memory of the server is sampled every second: "ours" is its level in the last third of the load,
"peer" that in the second third, after the warm-up.
"""

import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.harness import parser, report, row, speeds

N_QUESTIONS = 20
BEGINNINGS = "Once upon a time,|The fox and the wolf|Red, blue and|One, two, three".split("|")
N_CONTINUED = 64  # tokens
TIMEOUT = 300  # seconds that a client waits


@dataclass
class Load:
    """What clients got in a time: tokens and answers, how long each took, what failed."""

    seconds: float = 0.0
    n_tokens: int = 0
    latencies: list[float] = field(default_factory=list)
    faults: Counter = field(default_factory=Counter)

    @property
    def tokens_per_second(self):
        return self.n_tokens / self.seconds


def requests_of(model, questions):
    """(path, body) of each kind of request: questions and texts, whole and as streams."""
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    requests = []
    for question in questions:
        messages = [
            {"role": "user", "content": question["instruction"], "input": question["input"]}
        ]
        requests.append(("/v1/chat/completions", {"model": model, "messages": messages}))
    for i in range(len(questions)):
        text = BEGINNINGS[i % len(BEGINNINGS)] + " so" * (i // len(BEGINNINGS))
        body = {"model": model, "prompt": text, "max_tokens": N_CONTINUED}
        requests.append(("/v1/completions", body))
    return [(path, {**body, **(usage if i % 2 else {})}) for i, (path, body) in enumerate(requests)]


def ask(connection, path, body):
    """(text, number of tokens) of an answer; ValueError with what was answered instead."""
    headers = {"Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.read().decode()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {answer[:200]}")
    if not body.get("stream"):
        whole = json.loads(answer)
        return _text_of(whole["choices"][0], "message"), whole["usage"]["completion_tokens"]
    *events, last, end = answer.split("\n\n")
    if (last, end) != ("data: [DONE]", ""):
        raise ValueError(f"a stream that breaks off: {answer[-200:]}")
    parts = [json.loads(event.removeprefix("data: ")) for event in events]
    text = "".join(_text_of(choice, "delta") for part in parts for choice in part["choices"])
    return text, parts[-1]["usage"]["completion_tokens"]


def _text_of(choice, name):
    return choice["text"] if "text" in choice else choice[name].get("content", "")


def put_load(url, requests, expected, n_clients, seconds):
    """The `Load` of so many clients, each of which sends requests until the time is over."""
    load = Load()
    lock = threading.Lock()
    started = time.perf_counter()

    def be_client(number):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
        for i in itertools.count(number * 7):
            began = time.perf_counter()
            if began - started >= seconds:
                break
            path, body = requests[i % len(requests)]
            try:
                text, n_tokens = ask(connection, path, body)
                fault = "" if text == expected[i % len(requests)] else "another answer"
            except (OSError, http.client.HTTPException, ValueError) as error:
                n_tokens = 0
                fault = f"{type(error).__name__}: {error}"
                connection.close()
            with lock:
                load.n_tokens += n_tokens
                load.latencies.append(time.perf_counter() - began)
                if fault:
                    load.faults[fault] += 1
        connection.close()

    clients = [threading.Thread(target=be_client, args=(n,)) for n in range(n_clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    load.seconds = time.perf_counter() - started
    return load


def answers_alone(url, requests):
    """The answer to each request, asked one after the other."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    answers = [ask(connection, path, body)[0] for path, body in requests]
    connection.close()
    return answers


@contextmanager
def server_of(run):
    """(address, process) of a server for a run, which ends with the block."""
    command = [sys.executable, "-m", "ch07", "serve", run, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http://"))
        yield address, process
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, f"the server ended with code {code}"


@contextmanager
def memory_samples(pid):
    """A list to which the memory of a process is added every second, in bytes."""
    samples = []
    ended = threading.Event()
    process = psutil.Process(pid)

    def sample():
        while not ended.wait(1.0):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def measure(run, n_clients, seconds):
    """The rows of the table; AssertionError if a request failed or got another answer."""
    rows = json.loads((Path(run) / "responses.json").read_text(encoding="utf-8"))
    with server_of(run) as (url, process):
        model = Path(run).resolve().name
        requests = requests_of(model, rows[:N_QUESTIONS])
        expected = answers_alone(url, requests)
        alone = [put_load(url, requests, expected, 1, seconds / 4)]
        with memory_samples(process.pid) as samples:
            many = put_load(url, requests, expected, n_clients, seconds)
        alone.append(put_load(url, requests, expected, 1, seconds / 4))
    for load in (many, *alone):
        assert not load.faults, load.faults
    third = max(1, len(samples) // 3)
    speed_alone = statistics.mean(load.tokens_per_second for load in alone)
    print(f"{len(many.latencies):,} answers, {many.n_tokens:,} tokens; no fault")
    print(f"one client: {' and '.join(f'{a.tokens_per_second:.0f}' for a in alone)} tokens/s")
    for share in (50, 95, 100):
        print(f"{share} % of the answers took at most {_percentile(many.latencies, share):.2f} s")
    mib = [round(sample / 2**20) for sample in samples[:: max(1, len(samples) // 12)]]
    print(f"memory in MiB: {' '.join(map(str, mib))}")
    ours = [many.tokens_per_second]
    middle, end = samples[third : 2 * third], samples[-third:]
    return [
        speeds(f"{n_clients} clients, tokens/s", ours, [speed_alone], "one client"),
        row("memory, bytes", statistics.median(end), statistics.median(middle), "the third before"),
    ]


def _percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


def main():
    arguments = parser(__doc__)
    arguments.add_argument("run", metavar="RUN", help="a finished run folder")
    arguments.add_argument("--clients", type=int, default=50)
    arguments.add_argument("--seconds", type=float, default=120)
    given = arguments.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before the start")
    report(measure(given.run, given.clients, given.seconds), given.json)


if __name__ == "__main__":
    main()
