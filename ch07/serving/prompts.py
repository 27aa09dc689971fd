"""The messages of a conversation -> the prompt, made as in training, and a view of it.

The one idea: a model remembers what it was trained to remember. The prompt comes from the same
functions as in training and in `chat`; a system message or earlier turns that the model was never
trained to read are refused, and left out only where the request allows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ch07.data.chat_dataset import encode_chat_prompt, token_roles
from ch07.data.chat_forms import prompt_parts, turns_of
from ch07.data.token_text import token_text
from ch07.data.tokenizer import end_token_id
from ch07.generation.backends import encode_raw
from ch07.generation.respond import forget_oldest_turns
from ch07.models.saved_run import TrainedModel
from ch07.serving.api_errors import ApiError
from ch07.serving.request_fields import ChatRequest, CompletionRequest, Message
from ch07.utils.console import count
from instruction_dataset import Entry


@dataclass(frozen=True)
class Prompt:
    """What the model reads."""

    token_ids: list[int]
    entry: Entry | None = None  # that it was made from; None: a text, continued as it is
    n_forgotten: int = 0  # earlier turns that were left out


def chat_prompt(run: TrainedModel, request: ChatRequest) -> Prompt:
    """The prompt of a conversation; ApiError for one that this model can't read."""
    entry = _entry(request.messages)
    if entry.get("system") and not takes_system(run):
        raise ApiError(
            "this model was trained without system messages: put it into the question itself",
            param="messages[0]",
        )
    n_turns = len(entry["history"])
    if run.conversations is None:
        if n_turns and not request.may_forget:
            raise ApiError(
                "this model was tuned on single questions and doesn't remember earlier turns: "
                'send the last question alone, or "truncation": "auto" to have them left out',
                param="messages",
                code="single_questions",
            )
        entry["history"] = []
    elif request.may_forget:
        limit = request.limits.max_new_tokens
        entry, _ = forget_oldest_turns(entry, run.model.config, run.tokenizer, run.style, limit)
    n_forgotten = n_turns - len(entry["history"])
    if not entry["history"]:
        del entry["history"]
    token_ids = encode_chat_prompt(entry, run.tokenizer, run.style)
    _check_length(token_ids, run, "messages")
    return Prompt(token_ids, entry, n_forgotten)


def completion_prompt(run: TrainedModel, request: CompletionRequest) -> Prompt:
    """The tokens of a text that is continued as it is; ApiError if it is too long."""
    token_ids = encode_raw(run, request.prompt)
    if not token_ids:
        raise ApiError("prompt has no token that this model knows", param="prompt")
    _check_length(token_ids, run, "prompt")
    return Prompt(token_ids)


def takes_system(run: TrainedModel) -> bool:
    """Whether the model was trained with system messages."""
    return bool((run.conversations or {}).get("system"))


def describe_prompt(run: TrainedModel, prompt: Prompt) -> dict[str, Any]:
    """The prompt of a conversation as the page shows it: its text in parts, and its tokens.

    Each part has the role that it plays: template, system, instruction, input, answer, or the end
    of an earlier answer.
    """
    entry = prompt.entry
    assert entry is not None, "a text that is continued needs no view"
    end_id = end_token_id(run.tokenizer)
    parts: list[tuple[str, str]] = []
    for turn, pieces in zip(turns_of(entry), prompt_parts(entry, run.style), strict=True):
        parts += pieces
        if turn is not entry:
            parts += [("answer", turn["output"]), ("end", run.tokenizer.decode([end_id]))]
    roles = token_roles({**entry, "output": ""}, run.tokenizer, run.style)
    tokens = [
        {"id": token_id, "text": token_text(token_id, run.tokenizer, end_id), "role": role}
        for token_id, role in zip(prompt.token_ids, roles, strict=True)
    ]
    return {
        "parts": [{"role": role, "text": text} for role, text in parts if text],
        "tokens": tokens,
        "context_length": run.model.config.context_length,
        "forgotten_turns": prompt.n_forgotten,
    }


def _entry(messages: Sequence[Message]) -> Entry:
    """The entry of the last question, its fields stripped as in training data."""
    entry: Entry = {}
    turns = list(messages)
    if turns[0].role == "system":
        entry["system"] = turns.pop(0).text.strip()
    first = len(messages) - len(turns)
    for i, message in enumerate(turns):
        expected = ("user", "assistant")[i % 2]
        place = f"messages[{first + i}]"
        if message.role != expected:
            raise ApiError(
                f"{place} is of role {message.role}, but a conversation is one system message, if "
                "any, and then user and assistant in turns",
                param=f"{place}.role",
            )
        if message.role == "user" and not message.text.strip():
            raise ApiError(f"{place}.content is empty", param=f"{place}.content")
    if len(turns) % 2 == 0:
        raise ApiError("the last message must be the user's", param="messages")
    questions = [_question(message) for message in turns[0::2]]
    answers = [message.text.strip() for message in turns[1::2]]
    history = [
        {**question, "output": answer}
        for question, answer in zip(questions[:-1], answers, strict=True)
    ]
    return {**questions[-1], "output": "", **entry, "history": history}


def _question(message: Message) -> Entry:
    return {"instruction": message.text.strip(), "input": message.input.strip()}


def _check_length(token_ids: Sequence[int], run: TrainedModel, param: str) -> None:
    context = run.model.config.context_length
    if len(token_ids) > context:
        raise ApiError(
            f"the prompt has {count(len(token_ids), 'token')}, but this model reads at most "
            f"{context:,}",
            param=param,
            code="context_length_exceeded",
        )
