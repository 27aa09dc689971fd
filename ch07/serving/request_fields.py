"""The body of a request to OpenAI's interface -> what is asked for, every field checked.

The one idea: nothing is ignored that would change the answer. A field is either used, or it has a
value that means nothing here, or it is known to be for bookkeeping alone; any other is an error
that names it. So is a field that OpenAI doesn't have: it may be a spelling mistake.

Source: the parameters of OpenAI's "Create chat completion" and "Create completion". Fields of our
own: `top_k` (as in vLLM), `truncation` ("auto" or "disabled", as in OpenAI's Responses), and in a
user's message `input`, which the book's prompt has beside the instruction.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ch07.config import ANSWER_TOKENS
from ch07.data.entry_checks import MAX_FIELD_CHARACTERS
from ch07.generation.completion import MAX_NEW_TOKENS, MAX_SEED
from ch07.generation.decoding import Sampling
from ch07.serving.api_errors import ApiError
from ch07.utils.validation import a_type, has_lone_surrogate, quote

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
MAX_MESSAGES = 1000
MAX_STOPS = 4  # as OpenAI
MAX_STOP_CHARACTERS = 200
MAX_TEMPERATURE = 2  # as OpenAI
MAX_TOP_K = 10**6

USED = "model stream stream_options max_tokens temperature top_p top_k seed stop".split()
USED_IN_CHAT = (*USED, "messages", "max_completion_tokens", "truncation")
USED_IN_COMPLETIONS = (*USED, "prompt")
# For the books of a service: no answer depends on them.
BOOKKEEPING = (
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_options "
    "prompt_cache_retention parallel_tool_calls"
).split()
# Fields of features that aren't here, and the values that don't ask for them (null never does).
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (),
    "logit_bias": ({},),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
UNSUPPORTED_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "name": (),
    "refusal": (),
    "annotations": ([],),
    "audio": (),
    "tool_calls": ([],),
    "tool_call_id": (),
    "function_call": (),
}
ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True)
class Limits:
    """How an answer is written, and where it ends."""

    max_new_tokens: int
    sampling: Sampling
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool  # at the end of a stream


@dataclass(frozen=True)
class Message:
    """One message of a conversation; a developer's is a system message."""

    role: str  # "system", "user" or "assistant"
    text: str
    input: str = ""  # what a user's instruction is applied to


@dataclass(frozen=True)
class ChatRequest:
    """What /v1/chat/completions is asked for."""

    messages: tuple[Message, ...]
    may_forget: bool  # whether earlier turns may be left out that the model can't use
    limits: Limits


@dataclass(frozen=True)
class CompletionRequest:
    """What /v1/completions is asked for."""

    prompt: str
    limits: Limits


# --- the body -----------------------------------------------------------------------------------
def parse_json(body: bytes) -> dict[str, Any]:
    """The object in a body of UTF-8; ApiError for anything else."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_object_without_repeats,
        )
    except UnicodeDecodeError:
        raise ApiError("the body is not UTF-8") from None
    except RecursionError:
        raise ApiError("the body is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ApiError(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(f"the body must be a JSON object, but is {a_type(value)}")
    return value


def _refuse_constant(name: str) -> None:
    raise ApiError(f"the body is not valid JSON: {name} is no number in JSON")


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ApiError(f"the field {quote(key)} appears twice")
            seen.add(key)
    return value


def parse_chat(body: Mapping[str, Any], model_id: str) -> ChatRequest:
    """The request in the body of /v1/chat/completions; ApiError for what it can't have."""
    _check_fields(body, USED_IN_CHAT)
    _check_model(body, model_id)
    truncation = _choice(body, "truncation", ("auto", "disabled"), "disabled")
    messages = _messages(body)
    return ChatRequest(messages, truncation == "auto", _limits(body, ANSWER_TOKENS))


def parse_completion(body: Mapping[str, Any], model_id: str) -> CompletionRequest:
    """The request in the body of /v1/completions; ApiError for what it can't have."""
    _check_fields(body, USED_IN_COMPLETIONS)
    _check_model(body, model_id)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ApiError(
            f"prompt must be text, but is {a_type(body.get('prompt'))}: token ids and several "
            "prompts in a request are not supported",
            param="prompt",
        )
    _check_text(prompt, "prompt")
    if not prompt:
        raise ApiError("prompt is empty: there is nothing to continue", param="prompt")
    return CompletionRequest(prompt, _limits(body, COMPLETION_TOKENS))


def _check_fields(body: Mapping[str, Any], used: Sequence[str]) -> None:
    """ApiError for the first field that is unknown, or asks for what isn't here."""
    for name, value in body.items():
        if name in used or name in BOOKKEEPING:
            continue
        if name not in UNSUPPORTED:
            raise ApiError(f"unrecognized field {quote(name)}", param=quote(name)[1:-1])
        _check_unsupported(name, value, UNSUPPORTED[name], name)


def _check_unsupported(name: str, value: Any, harmless: Sequence[Any], param: str) -> None:
    if value is None or any(type(value) is type(one) and value == one for one in harmless):
        return
    allowed = f", other than {json.dumps(harmless[0])}" if harmless else ""
    raise ApiError(
        f"{name} is not supported here{allowed}: leave it out",
        param=param,
        code="unsupported_parameter",
    )


def _check_model(body: Mapping[str, Any], model_id: str) -> None:
    name = body.get("model")
    if not isinstance(name, str):
        raise ApiError(f"model must be text; this server has {quote(model_id)}", param="model")
    if name != model_id:
        raise ApiError(
            f"there is no model {quote(name)} here; this server has {quote(model_id)}",
            status=404,
            param="model",
            code="model_not_found",
        )


# --- messages -----------------------------------------------------------------------------------
def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise ApiError("messages must be a list with at least one message", param="messages")
    if len(given) > MAX_MESSAGES:
        raise ApiError(
            f"messages has {len(given):,} messages, but at most {MAX_MESSAGES:,} are read",
            param="messages",
        )
    messages = tuple(_message(value, f"messages[{i}]") for i, value in enumerate(given))
    n_characters = sum(len(message.text) + len(message.input) for message in messages)
    if n_characters > MAX_FIELD_CHARACTERS:
        raise ApiError(
            f"messages have {n_characters:,} characters together, but at most "
            f"{MAX_FIELD_CHARACTERS:,} are read",
            param="messages",
            code="context_length_exceeded",
        )
    return messages


def _message(value: Any, place: str) -> Message:
    if not isinstance(value, dict):
        raise ApiError(f"{place} must be an object, but is {a_type(value)}", param=place)
    role = value.get("role")
    if role not in ROLES:
        raise ApiError(
            f"{place}.role is {_shown(role)}, but must be system, developer, user or assistant",
            param=f"{place}.role",
        )
    for name, content in value.items():
        if name in ("role", "content") or (name == "input" and role == "user"):
            continue
        if name not in UNSUPPORTED_IN_MESSAGE:
            raise ApiError(f"unrecognized field {quote(name)} in {place}", param=place)
        where = f"{place}.{name}"
        _check_unsupported(where, content, UNSUPPORTED_IN_MESSAGE[name], where)
    text = _content(value.get("content"), f"{place}.content")
    given_input = value.get("input")
    if given_input is None:
        given_input = ""
    if not isinstance(given_input, str):
        raise ApiError(f"{place}.input must be text", param=f"{place}.input")
    _check_text(given_input, f"{place}.input")
    return Message("system" if role == "developer" else role, text, given_input)


def _content(value: Any, place: str) -> str:
    """The text of a message, which may be given in parts."""
    if isinstance(value, list) and value:
        return "\n".join(_part(part, f"{place}[{i}]") for i, part in enumerate(value))
    if not isinstance(value, str):
        raise ApiError(f"{place} must be text, but is {a_type(value)}", param=place)
    _check_text(value, place)
    return value


def _part(value: Any, place: str) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind != "text":
        raise ApiError(
            f"{place} is of type {_shown(kind)}, but this model reads text alone", param=place
        )
    text = value.get("text")
    if not isinstance(text, str):
        raise ApiError(f"{place}.text must be text, but is {a_type(text)}", param=place)
    _check_text(text, place)
    return text


def _check_text(text: str, place: str) -> None:
    if len(text) > MAX_FIELD_CHARACTERS:
        raise ApiError(
            f"{place} has {len(text):,} characters, but at most {MAX_FIELD_CHARACTERS:,} are read",
            param=place,
            code="context_length_exceeded",
        )
    if has_lone_surrogate(text):
        raise ApiError(f"{place} contains half a character (a lone surrogate)", param=place)


# --- numbers ------------------------------------------------------------------------------------
def _limits(body: Mapping[str, Any], default_tokens: int) -> Limits:
    stream = _flag(body, "stream")
    return Limits(
        max_new_tokens=_max_new_tokens(body, default_tokens),
        sampling=_sampling(body),
        seed=_whole_number(body, "seed", 0, MAX_SEED),
        stop=_stop(body.get("stop")),
        stream=stream,
        include_usage=_include_usage(body.get("stream_options"), stream),
    )


def _max_new_tokens(body: Mapping[str, Any], default: int) -> int:
    given = [
        _whole_number(body, name, 1, MAX_NEW_TOKENS)
        for name in ("max_tokens", "max_completion_tokens")
    ]
    values = {value for value in given if value is not None}
    if len(values) > 1:
        raise ApiError(
            "max_tokens and max_completion_tokens differ: give one of them", param="max_tokens"
        )
    return values.pop() if values else default


def _sampling(body: Mapping[str, Any]) -> Sampling:
    temperature = _number(body, "temperature", 0, MAX_TEMPERATURE)
    top_p = _number(body, "top_p", 0, 1)
    top_k = _whole_number(body, "top_k", 1, MAX_TOP_K)
    if top_p == 0:
        raise ApiError("top_p is 0, but must be above 0 and at most 1", param="top_p")
    for name, value in (("top_p", top_p), ("top_k", top_k)):
        if temperature is None and value is not None and value != 1:
            raise ApiError(
                f"without a temperature the likeliest token is always taken, so {name} would do "
                "nothing: give a temperature, too",
                param=name,
            )
    return Sampling(float(temperature or 0), top_k, None if top_p is None else float(top_p))


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ApiError("stop must be text, or a list of texts, none of them empty", param="stop")
    if len(stops) > MAX_STOPS:
        raise ApiError(f"stop has {len(stops)} texts, but at most {MAX_STOPS}", param="stop")
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
        raise ApiError(f"a stop text has more than {MAX_STOP_CHARACTERS} characters", param="stop")
    return tuple(stops)


def _include_usage(value: Any, stream: bool) -> bool:
    if value is None:
        return False
    if not stream:
        raise ApiError("stream_options are for a stream alone", param="stream_options")
    if not isinstance(value, dict) or value.keys() - {"include_usage", "include_obfuscation"}:
        raise ApiError("stream_options may have include_usage alone", param="stream_options")
    return _flag(value, "include_usage")


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ApiError(f"{name} must be true or false, but is {a_type(value)}", param=name)
    return value


def _choice(values: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    value = values.get(name)
    if value is None:
        return default
    if value not in choices:
        raise ApiError(f"{name} is {_shown(value)}, but must be {' or '.join(choices)}", param=name)
    return value


def _number(values: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise ApiError(f"{name} must be a number, but is {a_type(value)}", param=name)
    if not low <= value <= high or not math.isfinite(value):
        raise ApiError(
            f"{name} is {quote(str(value))[1:-1]}, but must be {low} to {high}", param=name
        )
    return value


def _whole_number(values: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = _number(values, name, low, high)
    if value is None:
        return None
    if type(value) is not int:
        raise ApiError(f"{name} is {value}, but must be a whole number", param=name)
    return value


def _shown(value: Any) -> str:
    """A value in a message: text in quotes, anything else by its type."""
    return quote(value) if isinstance(value, str) else a_type(value)
