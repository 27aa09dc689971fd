"""Text generators by name: a script, a run on disk, or a server, as a command line names them.

The one idea: `--backend` is one word, `scripted:FILE`, a run folder or an address, and what comes
back is always the `complete` of `ch07.generation.completion`.
"""

import json

import torch

from ch07.data.json_reader import read_utf8
from ch07.generation.completion import (
    Completion,
    Options,
    TooLong,
    check_prompt,
    finished_completion,
    scripted,
)
from ch07.generation.decoding import Sampling, continue_prompts
from ch07.generation.http_backend import complete_at_url
from ch07.models.saved_run import load_run
from ch07.utils.errors import DataError, OptionError

SCRIPT = "scripted:"


def complete_with_run(folder, raw=True, device="cpu"):
    """`complete` by the model of a run folder; RunFolderError if there is none.

    `raw`: the prompt is continued as it is; else it is an instruction, written in the run's own
    style. What comes after a stop string is written too, and then cut off. `TooLong` for a prompt
    longer than the model's context; a context that is full ends an answer as "length".
    """
    run = load_run(folder, device)

    def complete(prompt, **options):
        asked = Options(**options)
        check_prompt(prompt)
        if asked.system is not None:
            raise ValueError("a local run knows no system message: put it into the prompt")
        text = prompt if raw else run.style.prompt({"instruction": prompt.strip()})
        token_ids = run.tokenizer.encode_ordinary(text)
        n_read = run.model.config.context_length
        if len(token_ids) > n_read:
            raise TooLong(
                f"a prompt of {len(token_ids)} tokens, but this model reads at most {n_read}"
            )
        generator = torch.Generator(device)
        generator.seed() if asked.seed is None else generator.manual_seed(asked.seed)
        (row,) = continue_prompts(
            run.model,
            [token_ids],
            asked.max_new_tokens,
            Sampling(asked.temperature, top_p=asked.top_p),
            generator=generator,
        )
        reason = "stop" if row.stopped == "end" else "length"
        return finished_completion(run.tokenizer.decode(row.token_ids), reason, asked.stop)

    return complete


def open_backend(name, model=None, kind=None, raw=None, first=0, device="cpu", **server):
    """`complete` for `scripted:FILE`, a run folder, or an address (then with a `model`).

    `first`: the first answer of a script that is used. `kind` of server is told by the address, if
    not given: Ollama's has port 11434, or ends in /api. `raw` None: a run continues the prompt, a
    server answers it as a message. `server`: what else `complete_at_url` takes. OptionError for
    what doesn't go together.
    """
    check_name(name)
    if name.startswith(SCRIPT):
        return scripted(read_script(name.removeprefix(SCRIPT)), first)
    if "://" not in name:
        return complete_with_run(name, raw is not False, device)
    if not model:
        raise OptionError(f"--backend {name} needs --model: which of the server's models to ask")
    kind = kind or ("ollama" if ":11434" in name or name.endswith("/api") else "openai")
    server.setdefault("stream", kind == "ollama")  # so that slow models aren't taken for dead ones
    try:
        return complete_at_url(name, model, kind=kind, raw=bool(raw), **server)
    except ValueError as error:
        raise OptionError(str(error)) from None


def check_name(name):
    """OptionError unless something is named."""
    if not name.removeprefix(SCRIPT):
        raise OptionError("the backend is empty: give scripted:FILE, a run folder, or a URL")


def read_script(path):
    """The answers in a JSON list: texts, or objects with "text" and "finish_reason"; DataError."""
    text, _ = read_utf8(path)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of answers")
    return [_answer(path, number, row) for number, row in enumerate(rows, start=1)]


def _answer(path, number, row):
    row = {"text": row} if isinstance(row, str) else row
    try:
        if isinstance(row["text"], str) and set(row) <= {"text", "finish_reason"}:
            return Completion(**row)
    except (TypeError, KeyError, ValueError):
        pass
    raise DataError(
        f'{path}: answer {number} is neither text nor {{"text": ..., "finish_reason": "stop" or '
        '"length"}'
    )
