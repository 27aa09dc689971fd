"""Serve a run or another model: a chat page, and OpenAI's interface under /v1.

python -m ch07 serve RUN [--port 8000]
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from ch07.data.text_lines import whole_text
from ch07.data.tokenizer import end_token_id
from ch07.evaluation.held_out_answers import sample_indices
from ch07.generation.continuous_batching import ContinuousBatch
from ch07.generation.http_backend import KEY_CHARACTERS
from ch07.models.model_slice import use_fastest_threads
from ch07.models.model_to_answer import load_model_to_answer
from ch07.models.resource_estimate import answers_at_once
from ch07.models.saved_run import Run, TrainedModel
from ch07.runs.run_folder import RESPONSES
from ch07.serving.app import Service, make_app
from ch07.serving.engine_thread import EngineThread
from ch07.serving.http_server import make_server, open_socket, url_of
from ch07.serving.security import AccessRules, is_loopback, names_of_this_machine
from ch07.utils.console import terminal_safe
from ch07.utils.errors import OptionError
from ch07.utils.exit_codes import EXIT_INTERRUPTED

KEY_VARIABLE = "CH07_SERVE_KEY"  # of the environment
MIN_KEY = 12  # characters
N_SUGGESTIONS = 3


def serve(
    folder: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_rows: int = 16,
    queue: int = 64,
    time_limit: float = 120.0,
    key_file: str | None = None,
    device: str = "auto",
    weights: str = "float32",
) -> int:
    """Answer requests until a signal ends the server; 130 after Ctrl-C, else 0."""
    key = _read_key(key_file)
    if key is None and not is_loopback(host):
        raise OptionError(
            f"at --host {host} everybody in the network could use this model: set a key in "
            f"{KEY_VARIABLE} or a --key-file, or leave --host out"
        )
    with open_socket(host, port) as opened:  # before the model is loaded, which may take long
        run = load_model_to_answer(folder, device, weights, _print_note)
        config = run.model.config
        max_rows = min(max_rows, answers_at_once(config, config.context_length))
        use_fastest_threads(config, max_rows, next(run.model.parameters()).device)
        batch = ContinuousBatch(run.model, max_rows, end_id=end_token_id(run.tokenizer))
        engine = EngineThread(batch, run.tokenizer, max_waiting=queue, report=_print_failure)
        service = Service(run, engine, time_limit, suggestions=suggested_questions(run))
        app = make_app(service, AccessRules(names_of_this_machine(host), key))
        address = f"serving {run.name} at {url_of(opened)} (Ctrl-C ends it)"

        def announce() -> None:
            print(terminal_safe(address), flush=True)

        server = make_server(app, lambda: engine.end_answers("shutdown"), announce)
        server.run(sockets=[opened])
    return EXIT_INTERRUPTED if server.stopped_by == signal.SIGINT else 0


def suggested_questions(run: TrainedModel) -> list[dict[str, str]]:
    """A few held-out questions that the model answered right, or any, each of another family."""
    if not isinstance(run, Run):
        return []
    try:
        rows = json.loads((run.folder / RESPONSES).read_text(encoding="utf-8"))
        singles = [row for row in rows if not row.get("history") and not row.get("system")]
        right = [r for r in singles if r["model_response"].strip() == r["output"].strip()]
        chosen = right or singles
        return [
            {"instruction": chosen[i]["instruction"], "input": chosen[i]["input"] or ""}
            for i in sample_indices(chosen)[:N_SUGGESTIONS]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # the page does without


def _read_key(path: str | None) -> str | None:
    """The key from a file or the environment, or None; OptionError for one that is none."""
    source = KEY_VARIABLE if path is None else path
    if path is None:
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            return None
    else:
        key, _ = whole_text(Path(path), "a key")
    key = key.strip()
    if len(key) < MIN_KEY:
        raise OptionError(
            f"the key in {source} has {len(key)} characters: it must have {MIN_KEY} or more"
        )
    if not KEY_CHARACTERS.fullmatch(key):
        raise OptionError(f"the key in {source} must be one word of letters, digits and signs")
    return key


def _print_note(text: str) -> None:
    print(terminal_safe(text), file=sys.stderr)


def _print_failure(error: Exception) -> None:
    """What failed in the model; those who waited for it get an error, and the server goes on."""
    print(terminal_safe("".join(traceback.format_exception(error))), file=sys.stderr)
