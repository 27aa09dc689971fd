"""`serve` as a command: one line with the address, a clean end, and wrong usage in one sentence."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import DEADLINE

from ch07.commands.cli import main
from ch07.commands.serve import _read_key, suggested_questions
from ch07.generation.http_backend import complete_at_url
from ch07.models.saved_run import load_run

KEY = "a-key-with-24-characters"
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(run, *options, **variables):
    """(the process, its address) of a server of its own."""
    path = os.pathsep.join([str(ROOT / "tests" / "no_network"), str(ROOT)])
    command = [sys.executable, "-m", "ch07", "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        line = process.stdout.readline()
        assert re.match(r"serving \S*run at http://127.0.0.1:\d", line), process.stderr.read()
        yield process, line.split()[3]
    finally:
        process.kill()
        process.communicate()


def ask(address, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(address + path, data, headers)
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        return json.loads(response.read())


def chat(text, **options):
    return {"model": "run", "messages": [{"role": "user", "content": text}], **options}


@pytest.mark.slow
def test_it_answers_as_respond_does_and_ends_with_ctrl_c(run, capsys):
    assert main(["respond", str(run), "Write 7 as a word."]) == 0
    expected = capsys.readouterr().out.removesuffix("\n")
    with started(run) as (process, address):
        answer = ask(address, "/v1/chat/completions", chat("Write 7 as a word."))
        assert answer["choices"][0]["message"]["content"] == expected
        about = ask(address, "/chat/about")
        assert about["model"] == "run" and not about["remembers"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.slow
def test_it_ends_with_a_signal_while_an_answer_is_being_written(run):
    with started(run) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as client:
            body = {"model": "run", "prompt": "zero", "max_tokens": 1000, "stream": True}
            data = json.dumps(body).encode()
            head = (
                f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}"
            )
            client.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + data)
            received = client.recv(65536)
            process.send_signal(signal.SIGTERM)
            while piece := client.recv(65536):
                received += piece
        assert process.wait(timeout=DEADLINE) == 0
        assert received.rstrip().endswith(b"0") and b"data: [DONE]" in received
        assert b'"finish_reason":"' in received


@pytest.mark.slow
def test_without_the_key_of_the_file_nothing_is_told(run, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")
    with started(run, "--key-file", str(file)) as (_, address):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(address, "/v1/models")
        assert ask(address, "/v1/models", Authorization=f"Bearer {KEY}")["data"]


def test_the_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("CH07_SERVE_KEY", raising=False)
    assert _read_key(None) is None
    monkeypatch.setenv("CH07_SERVE_KEY", KEY)
    assert _read_key(None) == KEY
    file = tmp_path / "key"
    file.write_text(f"{KEY}-of-the-file\r\n", encoding="utf-8")
    assert _read_key(str(file)) == f"{KEY}-of-the-file"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "everybody in the network could use this model"),
        (["--host", "192.0.2.1"], "everybody in the network could use this model"),
        (["--port", "70000"], "70000 is not between 0 and 65535"),
        (["--max-rows", "0"], "0 is not between 1 and 1024"),
        (["--time-limit", "nan"], "nan is not between"),
        (["--key-file", "short"], "it must have 12 or more"),
        (["--key-file", "spaces"], "must be one word"),
    ],
)
def test_wrong_usage_is_one_sentence(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("abc\n", encoding="utf-8")
    (tmp_path / "spaces").write_text("one two three four\n", encoding="utf-8")
    try:
        code = main(["serve", "run", *options])
    except SystemExit as error:
        code = error.code
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") <= 2


def test_a_host_of_the_network_is_right_with_a_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CH07_SERVE_KEY", KEY)
    assert main(["serve", str(tmp_path / "none"), "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "everybody" not in capsys.readouterr().err  # only the run is missing


def test_a_port_that_is_in_use_is_said_before_the_model_is_loaded(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "no-run", "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"error: port {port} is in use: stop the program that uses it, or choose another one with "
        "--port (0: any free one)\n"
    )


def test_a_run_that_is_missing_is_one_sentence(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_questions_to_begin_with_are_held_out_and_were_answered_right(run):
    rows = json.loads((run / "responses.json").read_text(encoding="utf-8"))
    questions = suggested_questions(load_run(run))
    assert 1 <= len(questions) <= 3
    for question in questions:
        (row,) = [r for r in rows if {k: r[k] for k in ("instruction", "input")} == question]
        assert row["output"] == row["model_response"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", '[{"instruction": 5}]', "[{}]"])
def test_without_answers_there_are_none(run, tmp_path, content):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "responses.json").write_text(content, encoding="utf-8")
    assert suggested_questions(load_run(folder)) == []


@pytest.mark.slow
def test_our_own_commands_can_ask_it(run, tmp_path, capsys):
    """`evaluate --judge` gets from the server what it gets from the run itself."""
    rows = tmp_path / "rows.json"
    rows.write_text('[{"instruction": "Write 7 as a word.", "output": "seven"}]', encoding="utf-8")
    command = ["evaluate", str(run), "--data", str(rows), "--json", "--judge"]
    with started(run) as (_, address):
        assert main([*command, f"{address}/v1", "--judge-model", "run"]) == 0
        through_server = json.loads(capsys.readouterr().out)
        complete = complete_at_url(address, "run")
        assert complete("Write 7 as a word.").text
    assert main([*command, str(run)]) == 0
    alone = json.loads(capsys.readouterr().out)
    for report in (alone, through_server):
        report["judge"].pop("backend", None)
        report["judge"].pop("model", None)
    assert through_server == alone
