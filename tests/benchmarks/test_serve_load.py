"""The load on a server, for a moment and with few clients: no error, and every answer its own."""

import json

import pytest
from served import serving, trained

from benchmarks.serve_load import answers_alone, ask, put_load, requests_of

QUESTIONS = [{"instruction": text, "input": ""} for text in ("Add 1 and 1.", "Name a fruit.")]


@pytest.fixture
def served(tokenizer):
    with serving(queue=8) as server:
        yield server


def small_requests():
    requests = [
        (path, {**body, "max_tokens": 12}) for path, body in requests_of("small", QUESTIONS)
    ]
    assert len({(path, body.get("stream")) for path, body in requests}) == 4
    return requests


def test_eight_clients_get_the_answers_of_one_without_a_fault(served):
    requests = small_requests()
    expected = answers_alone(served.url, requests)
    assert len(set(expected)) == len(requests)
    load = put_load(served.url, requests, expected, 8, 1.5)
    assert not load.faults and served.failures == []
    assert len(load.latencies) >= 8 and load.n_tokens == 12 * len(load.latencies)
    served.wait_until_idle()


def test_what_is_wrong_is_counted():
    with serving(trained(name="other")) as other:
        load = put_load(other.url, small_requests(), [""] * 4, 2, 0.05)
    assert all(fault.startswith("ValueError: status 404") for fault in load.faults)
    assert sum(load.faults.values()) == len(load.latencies) >= 2 and load.n_tokens == 0


def test_another_answer_is_a_fault(served):
    load = put_load(served.url, small_requests(), ["no such answer"] * 4, 1, 0.05)
    assert list(load.faults) == ["another answer"]


def test_a_stream_that_breaks_off_is_a_fault():
    class Broken:
        status = 200

        def request(self, *given):
            pass

        def getresponse(self):
            return self

        def read(self):
            return f"data: {json.dumps({'choices': []})}\n\n".encode()

    with pytest.raises(ValueError, match="breaks off"):
        ask(Broken(), "/v1/completions", {"stream": True})
