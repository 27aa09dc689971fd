"""Text generators by name, as the command line names them: a script, a run on disk, or a server.

`--backend` is `scripted:FILE`, a run folder or another model such as `smollm2`, or an address; what
is returned is always a `Complete` of `ch07.generation.completion`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tiktoken
import torch

from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.text_lines import whole_text
from ch07.data.tokenizer import end_token_id
from ch07.generation.completion import (
    Complete,
    Completion,
    CompletionOptions,
    PromptTooLong,
    check_prompt,
    finished_completion,
    refuse_schema,
    scripted,
)
from ch07.generation.decoding import Sampling
from ch07.generation.http_backend import complete_at_url
from ch07.generation.prompt_lookup import continue_prompt
from ch07.generation.server_protocols import protocol_of_address
from ch07.generation.text_stream import TextStream
from ch07.models.model_to_answer import load_model_to_answer
from ch07.models.saved_run import TrainedModel
from ch07.utils.errors import DataError, InputError, OptionError
from instruction_dataset import encode_parts, split_at_marks

SCRIPT_PREFIX = "scripted:"


def complete_with_model(
    name: str | Path,
    raw: bool = True,
    device: str = "cpu",
    weights: str = "float32",
    report: Callable[[str], None] = lambda text: None,
) -> Complete:
    """A `complete` that uses the model of a run folder, or a published one.

    RunFolderError or WeightsError if there is none. With `raw`, the prompt is continued as it is,
    and the marks of the model's own chat template in it are tokens; otherwise it is an instruction,
    and the model's prompt style is applied to it. An answer that fills the context ends with
    "length". `device`, `weights` and `report` are those of `load_model_to_answer`.
    """
    run = load_model_to_answer(str(name), device, weights, report)
    device_used = next(run.model.parameters()).device

    def complete(prompt: str, **options: Any) -> Completion:
        limits = CompletionOptions(**options)
        check_prompt(prompt)
        refuse_schema(limits)
        generator = torch.Generator(device_used)
        if limits.seed is None:
            generator.seed()
        else:
            generator.manual_seed(limits.seed)
        row = continue_prompt(
            run.model,
            _encode(run, prompt, limits.system, raw),
            limits.max_new_tokens,
            sampling=Sampling(limits.temperature, top_p=limits.top_p),
            end_id=end_token_id(run.tokenizer),
            generator=generator,
            on_token=_watch_for(limits.stop, run.tokenizer),
        )
        finish_reason = "stop" if row.stopped == "end" else "length"
        return finished_completion(run.tokenizer.decode(row.token_ids), finish_reason, limits.stop)

    return complete


def _watch_for(
    stop: Sequence[str], tokenizer: tiktoken.Encoding
) -> Callable[[int], bool | None] | None:
    """What to call with each new token: it returns True as soon as the text has a stop string."""
    if not stop:
        return None
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)

    def has_stopped(token_id: int) -> bool:
        stream.add(token_id)
        return finished_completion("".join(pieces), "length", stop).finish_reason == "stop"

    return has_stopped


def _encode(run: TrainedModel, prompt: str, system: str | None, raw: bool) -> list[int]:
    """The token ids of a prompt; PromptTooLong if they exceed the model's context.

    InputError for a system message that the model can't have.
    """
    if system is not None and (raw or not (run.conversations or {}).get("system")):
        raise InputError("this prompt has no system message: put it into the prompt itself")
    if raw:
        token_ids = encode_raw(run, prompt)
    else:
        entry = {"instruction": prompt.strip(), **({} if system is None else {"system": system})}
        token_ids = encode_chat_prompt(entry, run.tokenizer, run.style)
    context = run.model.config.context_length
    if len(token_ids) > context:
        raise PromptTooLong(
            f"a prompt of {len(token_ids)} tokens, but this model reads at most {context}"
        )
    return token_ids


def encode_raw(run: TrainedModel, prompt: str) -> list[int]:
    """The ids of a prompt that may hold a whole chat template; its marks are tokens, no others."""
    known: set[str] = run.tokenizer.special_tokens_set
    marks = frozenset(mark for mark in known if mark in run.style.no_input)
    parts = [
        ("template" if piece in marks else "text", piece) for piece in split_at_marks(prompt, marks)
    ]
    return encode_parts(parts, run.tokenizer)


def open_backend(
    name: str,
    model: str | None = None,
    *,
    kind: str | None = None,
    raw: bool | None = None,
    first: int = 0,
    device: str = "auto",
    weights: str = "float32",
    report: Callable[[str], None] = lambda text: None,
    **server: Any,
) -> Complete:
    """The `complete` of `scripted:FILE`, a run or model, or an address (which needs a `model`).

    `kind` is the server's protocol, by default recognised by its address (`protocol_of_address`).
    `raw` None: a run continues the prompt, a server answers it as a message. `first` is the first
    answer of a script to use. `device` and `weights` are those of a run. `report` gets lines about
    what is slow or failed. `server` holds further arguments of `complete_at_url`.
    OptionError for arguments that don't fit together.
    """
    check_backend_name(name)
    is_server = "://" in name
    if model and not is_server:
        raise OptionError(
            f"{model!r} names one of a server's models, but {name} is no server: give its address"
        )
    if name.startswith(SCRIPT_PREFIX):
        return scripted(read_script(name.removeprefix(SCRIPT_PREFIX)), first)
    if not is_server:
        return complete_with_model(name, raw is not False, device, weights, report)
    if weights != "float32":
        raise OptionError(f"--weights {weights} is for a model on this machine, not for a server")
    if not model:
        raise OptionError(f"--backend {name} needs --model: which of the server's models to ask")
    if kind is None:
        kind = protocol_of_address(name)
    # With streaming, a long answer doesn't look like a server that hangs.
    server.setdefault("stream", kind == "ollama")
    try:
        return complete_at_url(name, model, kind=kind, raw=bool(raw), report=report, **server)
    except InputError as error:
        raise OptionError(str(error)) from None


def check_backend_name(name: str) -> None:
    """OptionError if the name is empty."""
    if not name.removeprefix(SCRIPT_PREFIX):
        raise OptionError(
            "the backend is empty: give scripted:FILE, a run folder, smollm2, or a URL"
        )


def read_script(path: str | Path) -> list[Completion]:
    """The answers in a JSON list of texts, or of objects with "text" and "finish_reason".

    DataError, with the number of the answer, for anything else.
    """
    text, _ = whole_text(path, "a JSON list of answers")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of answers")
    return [_scripted_answer(path, number, row) for number, row in enumerate(rows, start=1)]


def _scripted_answer(path: str | Path, number: int, row: Any) -> Completion:
    if isinstance(row, str):
        row = {"text": row}
    try:
        if isinstance(row["text"], str) and set(row) <= {"text", "finish_reason"}:
            return Completion(**row)
    except (TypeError, KeyError, ValueError):
        pass
    raise DataError(
        f'{path}: answer {number} is neither text nor {{"text": ..., "finish_reason": "stop" or '
        '"length"}'
    )
