"""The requests and answers of OpenAI's chat interface and of Ollama's: JSON in, text out.

The two differ in where the options are placed and in the form of an answer, so each has one
function that builds a request and one that reads an answer. Networks are handled elsewhere
(`ch07.generation.http_backend`).

Sources: OpenAI's "Create chat completion" (`/v1/chat/completions`), and Ollama's docs/api.md
(`/api/chat`, `/api/generate`), where sampling options belong in "options": at the top level of
the request they are ignored. A JSON schema goes into OpenAI's `response_format`, which
llama.cpp, vLLM and LM Studio know, too, or into Ollama's `format`. A raw prompt goes to OpenAI's
older `/v1/completions`, which llama.cpp and vLLM provide, too.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ch07.data.tokenizer import load_tokenizer
from ch07.generation.completion import (
    FINISH_REASONS,
    CompletionError,
    CompletionOptions,
    PromptRejected,
)
from ch07.utils.console import terminal_line

# Tokens that some versions of Ollama read by default; they cut longer prompts without an error.
OLLAMA_DEFAULT_CONTEXT = 2048
OLLAMA_PORT = ":11434"
TEMPLATE_TOKENS = 64  # that a chat template may add
MAX_OPENAI_STOPS = 4  # stop strings that OpenAI accepts
# HTTP's statuses, and those of proxies, after which the same request may succeed.
TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504, 524, 529)
MAX_QUOTED_CHARACTERS = 60  # of an answer, in a message
MAX_STREAM_PARTS = 100_000  # of a streamed answer; a part is a token or more
MAX_JSON_DEPTH = 100  # an answer has about five lists and objects within each other


def protocol_of_address(url: str) -> str:
    """The protocol that a server speaks: "ollama" if the address has its port or ends in /api."""
    return "ollama" if OLLAMA_PORT in url or url.endswith("/api") else "openai"


class TransientError(Exception):
    """A failure that may be temporary: worth another attempt after `wait` seconds."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait  # seconds that the server asks for


class Reply(NamedTuple):
    """What a server wrote, and why it stopped: "stop" or "length"."""

    text: str
    finish_reason: str


# --- requests -----------------------------------------------------------------------------------
def openai_request(
    model: str, prompt: str, options: CompletionOptions, *, stream: bool, raw: bool
) -> dict[str, Any]:
    """The request as a dict, for /v1/completions if `raw`; `stream` is not used."""
    body: dict[str, Any] = {"model": model, "temperature": options.temperature}
    if raw:
        body["prompt"] = prompt
    else:
        body["messages"] = _messages(prompt, options)
    body["max_tokens"] = options.max_new_tokens
    body["top_p"] = options.top_p
    body["seed"] = options.seed
    # A longer list would be refused; the text is cut at all stop strings here in any case.
    body["stop"] = list(options.stop[:MAX_OPENAI_STOPS]) or None
    if options.schema is not None:
        named = {"name": SCHEMA_NAME, "strict": True, "schema": dict(options.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return _without_none(body)


# Options that a server may refuse, and that a request does without; the text is cut at the stop
# strings here in any case.
OPTIONAL_FIELDS = ("temperature", "top_p", "seed", "stop")
SCHEMA_NAME = "reply"  # OpenAI wants one
# What a message says that refuses a `response_format`.
REPLY_FORMAT = re.compile(
    r"response[_ ]?format|json[_ ]?(?:schema|object|mode)|structured[_ ]?output|pars\w+ grammar",
    re.IGNORECASE,
)
TOO_MUCH = re.compile(r"too (?:large|long|many)|at most|maximum|exceed|context", re.IGNORECASE)
# A message that only quotes a prompt may have the name of an option in it, too.
REFUSES = re.compile(
    r"refused|unsupported|unrecogni[sz]ed|unknown|unexpected|invalid|deprecated|extra_forbidden"
    r"|not (?:\w+ )?(?:supported?|permitted|allowed)|only\b.*\bsupported|must be",
    re.IGNORECASE,
)


def adapt_openai_request(body: dict[str, Any], message: str) -> dict[str, Any] | None:
    """The request as a server wants it that has refused it with a message; None: no way is known.

    Newer models take `max_completion_tokens` and only their own temperature. A server that takes
    no JSON schema may take the older `json_object`, and if not that, no `response_format`.

    >>> adapt_openai_request({"max_tokens": 9}, "Use 'max_completion_tokens' instead.")
    {'max_completion_tokens': 9}
    """
    if "response_format" in body and REPLY_FORMAT.search(message):
        return _with_simpler_format(body)
    refuses = REFUSES.search(message) is not None
    if refuses and "stop" in body and _names_field(message, "stop"):  # perhaps too many of them
        return _without(body, "stop")
    if TOO_MUCH.search(message):  # it is the prompt, or a number, that is refused
        return None
    refuses_limit = refuses and _names_field(message, "max_tokens")
    if "max_tokens" in body and ("max_completion_tokens" in message or refuses_limit):
        return {**_without(body, "max_tokens"), "max_completion_tokens": body["max_tokens"]}
    for name in OPTIONAL_FIELDS:
        if refuses and name in body and _names_field(message, name):
            return _without(body, name)
    return None


def _with_simpler_format(body: dict[str, Any]) -> dict[str, Any]:
    if body["response_format"]["type"] == "json_schema":
        return {**body, "response_format": {"type": "json_object"}}
    return _without(body, "response_format")


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in body.items() if field != name}


def _names_field(message: str, name: str) -> bool:
    """Whether a message is about a field; "stop" is also a word, so it must look like a name."""
    if name != "stop":
        return re.search(rf"\b{name}\b", message) is not None
    return re.search(r"['\"`]stop['\"`]|\bstop:|\bstop$", message) is not None


def ollama_request(
    model: str, prompt: str, options: CompletionOptions, *, stream: bool, raw: bool
) -> dict[str, Any]:
    """The request as a dict, for /api/generate if `raw`, else for /api/chat."""
    settings = {
        "num_predict": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": list(options.stop) or None,
        "num_ctx": _context_to_request(prompt, options),
    }
    body: dict[str, Any] = {"model": model, "stream": stream}
    if raw:
        body |= {"prompt": prompt, "raw": True}
    else:
        body["messages"] = _messages(prompt, options)
    if options.schema is not None:
        body["format"] = dict(options.schema)
    body["options"] = _without_none(settings)
    return body


def adapt_ollama_request(body: dict[str, Any], message: str) -> dict[str, Any] | None:
    """The request without a format that was refused with a message; None: nothing to change.

    Versions before 0.5 take no schema; other options that Ollama doesn't know, it ignores.
    """
    if "format" in body and re.search(r"\bformat\b", message):
        return _without(body, "format")
    return None


def _messages(prompt: str, options: CompletionOptions) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": prompt}]
    if options.system is not None:
        messages.insert(0, {"role": "system", "content": options.system})
    return messages


def _context_to_request(prompt: str, options: CompletionOptions) -> int | None:
    """The context length to ask for; None if the default is long enough.

    An estimate: other tokenizers may need twice as many tokens as GPT-2's, for example if they
    split every digit. It is a power of two, since Ollama reloads the model for each new length.
    """
    n_read = 2 * len(load_tokenizer().encode_ordinary(f"{options.system or ''}\n{prompt}"))
    needed = n_read + TEMPLATE_TOKENS + options.max_new_tokens
    if needed <= OLLAMA_DEFAULT_CONTEXT:
        return None
    return 1 << (needed - 1).bit_length()


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# --- answers ------------------------------------------------------------------------------------
def read_openai(answer: str) -> Reply:
    """The reply in an answer; TransientError if half of it is missing, CompletionError if wrong."""
    value = _parse_json(answer)
    _raise_reported_error(value)
    try:
        choice = value["choices"][0]
        _raise_reported_error(choice)
        reason = _known_finish_reason(choice.get("finish_reason"))
        text = choice["text"] if "text" in choice else _message_text(choice["message"], reason)
        return _validate_reply(text, reason)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise CompletionError(
            f"this isn't OpenAI's chat interface: its answer has {_keys(value)}, but no "
            "choices[0].message.content (or text)"
        ) from None


def _message_text(message: dict[str, Any], finish_reason: Any) -> Any:
    """The text of a message, of which services may give parts; PromptRejected for a refusal."""
    content = message.get("content")
    if content is None and message.get("refusal"):
        refusal = terminal_line(str(message["refusal"]), 200)
        raise PromptRejected(f"the model refuses to answer: {refusal}")
    if isinstance(content, list):  # parts of other types hold thoughts
        return "".join(part["text"] for part in content if part.get("type", "text") == "text")
    if content is None and finish_reason != "length":
        return message["content"]
    return content


def _raise_reported_error(value: Any) -> None:
    """TransientError or CompletionError with the reason, if an answer is the report of an error."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or "message" not in error:
        return
    text = f"the server reports: {terminal_line(str(error['message']), 200)}"
    if error.get("code") in TRANSIENT_STATUS:
        raise TransientError(text)
    raise CompletionError(text)


def read_ollama(answer: str) -> Reply:
    """The reply in one object, or in a stream of one object per line; errors as `read_openai`."""
    text = ""
    lines = (line for line in answer.split("\n") if line.strip())
    for n_before, line in enumerate(lines):
        if n_before == MAX_STREAM_PARTS:
            raise CompletionError(f"the answer has more than {MAX_STREAM_PARTS:,} parts")
        part = _parse_json(line)
        if isinstance(part, dict) and "error" in part:
            raise CompletionError(f"the server reports: {terminal_line(str(part['error']), 200)}")
        try:
            text += part["response"] if "response" in part else part["message"]["content"]
            if part["done"] is True:
                return _validate_reply(text, part.get("done_reason") or "stop")
        except (KeyError, TypeError):
            raise CompletionError(
                f"this isn't Ollama's interface: its answer has {_keys(part)}, but no "
                "message.content (or response) and done"
            ) from None
    raise TransientError("the answer was cut off")


# What servers call the two reasons; a null, too, means that the answer is whole.
OTHER_FINISH_REASONS = {
    None: "stop",
    "": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_length": "length",
}


def _validate_reply(text: Any, finish_reason: Any) -> Reply:
    """The reply; TypeError if it isn't text, PromptRejected if a filter stopped it."""
    finish_reason = _known_finish_reason(finish_reason)
    if isinstance(finish_reason, str) and finish_reason not in FINISH_REASONS:
        raise PromptRejected(
            f"the server gave no complete answer: {terminal_line(finish_reason, 60)}"
        )
    if text is None and finish_reason == "length":  # the limit was reached while it was reasoning
        return Reply("", finish_reason)
    if not isinstance(text, str) or not isinstance(finish_reason, str):
        raise TypeError("no text")
    return Reply(text, finish_reason)


def _known_finish_reason(reason: Any) -> Any:
    """The name that is used here for why a text ended; an unknown one as it is."""
    if reason is None or isinstance(reason, str):
        return OTHER_FINISH_REASONS.get(reason, reason)
    return reason


def _parse_json(text: str) -> Any:
    _check_depth(text)
    try:
        return json.loads(text)
    except ValueError:
        if text.lstrip().startswith("{"):
            raise TransientError("the answer was cut off") from None
        raise CompletionError(
            "the server's answer isn't JSON, but begins with "
            f"{terminal_line(text[:MAX_QUOTED_CHARACTERS], MAX_QUOTED_CHARACTERS)!r}: "
            "is the address right?"
        ) from None


# The texts in JSON, closed or not, so that brackets in them aren't counted; and the brackets.
TEXT_OR_BRACKET = re.compile(r'"(?:[^"\\]+|\\.)*"?|[\[\]{}]', re.DOTALL)


def _check_depth(text: str) -> None:
    """CompletionError for JSON whose nesting could exhaust the stack."""
    depth = 0
    for match in TEXT_OR_BRACKET.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if depth > MAX_JSON_DEPTH:
            raise CompletionError(
                f"the server's answer is nested more than {MAX_JSON_DEPTH} levels deep: is the "
                "address right?"
            )


def _keys(value: Any) -> str:
    keys = ", ".join(map(str, value)) if isinstance(value, dict) and value else "no keys"
    return terminal_line(keys, 100)


# --- both ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ServerProtocol:
    """The paths of an interface below its address, and its functions."""

    chat_path: str
    raw_path: str
    request: Callable[..., dict[str, Any]]
    read: Callable[[str], Reply]
    schema_field: str  # of a request
    # a refused request and the server's message -> another request, or None
    adapt: Callable[[dict[str, Any], str], dict[str, Any] | None]


PROTOCOLS = {
    "openai": ServerProtocol(
        "/v1/chat/completions",
        "/v1/completions",
        openai_request,
        read_openai,
        "response_format",
        adapt_openai_request,
    ),
    "ollama": ServerProtocol(
        "/api/chat", "/api/generate", ollama_request, read_ollama, "format", adapt_ollama_request
    ),
}
