"""Answers in the form of OpenAI's interface: whole, or as a stream of server-sent events.

Beside OpenAI's `finish_reason`, "stop" or "length", each choice has a `stop_reason` that says more:
"end" (the model ended its answer), "stop" (a stop string), "length" (max_tokens), "context" (it is
full), "time" (the server's limit) or "shutdown". Where earlier turns were left out, the answer has
`forgotten_turns`.
"""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ch07.serving.engine_thread import AnswerEnd

BY_ITSELF = ("end", "stop")  # reasons that OpenAI calls "stop"; all others are its "length"


@dataclass(frozen=True)
class AnswerForm:
    """What is the same in all parts of one answer."""

    model_id: str
    is_chat: bool
    n_prompt_tokens: int
    include_usage: bool = False  # in a stream: whether its last part has the usage
    n_forgotten: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def whole(self, text: str, end: AnswerEnd) -> dict[str, Any]:
        """The answer as one object."""
        if self.is_chat:
            content = {"message": {"role": "assistant", "content": text, "refusal": None}}
        else:
            content = {"text": text}
        head = self._head("chat.completion" if self.is_chat else "text_completion")
        return {**head, "choices": [_choice(content, end)], "usage": self._usage(end)}

    def first_part(self) -> dict[str, Any] | None:
        """What begins a stream: of a chat, who speaks."""
        if not self.is_chat:
            return None
        return self._part({"delta": {"role": "assistant", "content": ""}}, None)

    def text_part(self, text: str) -> dict[str, Any]:
        """A piece of the answer."""
        return self._part({"delta": {"content": text}} if self.is_chat else {"text": text}, None)

    def last_parts(self, end: AnswerEnd) -> list[dict[str, Any]]:
        """Why the answer ended and, if it was asked for, the usage."""
        parts = [self._part({"delta": {}} if self.is_chat else {"text": ""}, end)]
        if self.include_usage:
            parts.append({**self._part_head(), "choices": [], "usage": self._usage(end)})
        return parts

    def _part(self, content: Mapping[str, Any], end: AnswerEnd | None) -> dict[str, Any]:
        part = {**self._part_head(), "choices": [_choice(content, end)]}
        return {**part, "usage": None} if self.include_usage else part

    def _part_head(self) -> dict[str, Any]:
        return self._head("chat.completion.chunk" if self.is_chat else "text_completion")

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        head = {
            "id": f"{prefix}-{self.number}",
            "object": kind,
            "created": self.created,
            "model": self.model_id,
        }
        return {**head, "forgotten_turns": self.n_forgotten} if self.n_forgotten else head

    def _usage(self, end: AnswerEnd) -> dict[str, int]:
        return {
            "prompt_tokens": self.n_prompt_tokens,
            "completion_tokens": end.n_tokens,
            "total_tokens": self.n_prompt_tokens + end.n_tokens,
        }


def _choice(content: Mapping[str, Any], end: AnswerEnd | None) -> dict[str, Any]:
    finish_reason = None
    if end is not None:
        finish_reason = "stop" if end.reason in BY_ITSELF else "length"
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
    return choice if end is None else {**choice, "stop_reason": end.reason}


def server_sent_event(value: Mapping[str, Any] | str) -> bytes:
    r"""One event of a stream.

    >>> server_sent_event("[DONE]")
    b'data: [DONE]\n\n'
    """
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def model_object(model_id: str, created: int) -> dict[str, Any]:
    """An entry of the list of models."""
    return {"id": model_id, "object": "model", "created": created, "owned_by": "ch07"}
