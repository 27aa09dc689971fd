"""Messages in the forms that services and datasets write -> a conversation in turns.

The one idea: whatever the keys and roles are called, a conversation is an optional system prompt
and turns, each a user's text and the assistant's answer to it. What isn't that (a tool's call, a
picture, an answer to nothing) is refused by its name, and nothing is dropped unsaid.

Forms: OpenAI's `messages` (role, content; `weight`; parts of content), ShareGPT's `conversations`
(from, value), lists of texts (LIMA, UltraChat), pairs (Firefly, MOSS), and marks within one text
(ChatML, Llama 2 and 3, Gemma, Phi-3, Zephyr, "### Human:", "Human:", "USER:").
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ch07.data.findings import RowFault
from ch07.data.json_objects import DECODER
from ch07.utils.validation import MAX_LISTED, a_type, quote, type_name

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
# An item of a list that holds a question and its answer (Capybara, XTuner) has two of these keys.
ROLES_OF_PAIRS = {
    **ROLES,
    "input": "user",
    "question": "user",
    "prompt": "user",
    "output": "assistant",
    "answer": "assistant",
    "response": "assistant",
}
TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython", "tool_response")
ROLE_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text", "parts")
# What is read of a message, or says nothing about it.
KEYS_OF_MESSAGES = {
    *ROLES_OF_PAIRS,
    *ROLE_KEYS,
    *TEXT_KEYS,
    "weight",
    "train",
    "training",
    "tool_calls",
    "function_call",
    "replies",
}


@dataclass(frozen=True)
class Message:
    """One message: its role is "system", "user" or "assistant"."""

    role: str
    text: str
    counts: bool = True  # False for an answer that the loss must not count ("weight": 0)


@dataclass(frozen=True)
class Turn:
    """What a user said, and the assistant's answer to it."""

    user: str
    assistant: str
    counts: bool = True


@dataclass(frozen=True)
class Conversation:
    """An optional system prompt, and at least one turn."""

    system: str | None
    turns: tuple[Turn, ...]
    notes: tuple[str, ...] = ()  # what is not in it


def decoded(value: Any) -> Any:
    """A list or object that a table holds as JSON text; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return DECODER.decode(value.strip())
        except (ValueError, RecursionError):
            return value
    return value


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages with roles."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and _first(item, ROLE_KEYS) for item in value)
    )


def in_list(value: Any) -> Any:
    """A single message in a list; anything else as it is."""
    return [value] if isinstance(value, dict) else value


def read_messages(value: Any) -> Conversation:
    """The conversation in a list of messages; RowFault if it isn't one.

    >>> read_messages([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}])
    Conversation(system=None, turns=(Turn(user='Hi', assistant='Ho', counts=True),), notes=())
    >>> read_messages(["Hi", "Ho"]).turns[0].assistant
    'Ho'
    >>> read_messages({"role": ["user", "assistant"], "content": ["Hi", "Ho"]}).turns[0].user
    'Hi'
    """
    value = _rows_of_lists(value)
    if not isinstance(value, list):
        raise RowFault(f"it is {a_type(value)}, but must be a list of messages")
    if not value:
        raise RowFault("the list is empty")
    messages: list[Message] = []
    unread: dict[str, None] = {}  # an ordered set
    for i, item in enumerate(value):
        messages += _read_item(item, i)
        if isinstance(item, dict):
            unread |= dict.fromkeys(map(str, item.keys() - KEYS_OF_MESSAGES))
    conversation = group_into_turns(messages)
    if not unread:
        return conversation
    keys = ", ".join(map(quote, sorted(unread)[:MAX_LISTED]))
    note = f"in messages, what is under {keys} is not trained on"
    return replace(conversation, notes=(*conversation.notes, note))


def _rows_of_lists(value: Any) -> Any:
    """An object of lists, as `datasets` may store messages, as a list of objects."""
    if not isinstance(value, dict) or not all(isinstance(v, list) for v in value.values()):
        return value
    if len({len(items) for items in value.values()}) != 1:
        return value
    return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]


def as_messages(value: Any, role: str, key: str) -> list[dict[str, Any]]:
    """What stands under `key` as messages: a text is one of that role; RowFault for anything else.

    >>> as_messages("Hi", "user", "prompt")
    [{'role': 'user', 'content': 'Hi'}]
    """
    value = decoded(value)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    messages = in_list(value)
    if not isinstance(messages, list):
        raise RowFault(f"{quote(key)} is {a_type(value)}, but must be text or messages")
    for message in messages:
        if not isinstance(message, dict):
            raise RowFault(f"{quote(key)} holds {a_type(message)}, but must hold messages")
    return messages


def is_system_message(message: Mapping[str, Any]) -> bool:
    """Whether a message is a system prompt, whatever its keys are called."""
    role = str(_first(message, ROLE_KEYS)).strip().casefold()
    return ROLES.get(role) == "system"


def message_text(message: Mapping[str, Any]) -> str:
    """The text of one message, stripped; RowFault if it has none."""
    text = _first(message, TEXT_KEYS)
    return text_of(text, "a message").strip()


def _first(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value under the first of the names that has one."""
    return next((item[name] for name in names if item.get(name) is not None), None)


def _read_item(item: Any, i: int) -> list[Message]:
    """The message that an item of the list is; two where it holds question and answer."""
    if isinstance(item, str):  # LIMA, UltraChat: they take turns
        return [Message("user" if i % 2 == 0 else "assistant", item)]
    place = f"message {i + 1}"
    if not isinstance(item, dict):
        raise RowFault(
            f"{place} is {a_type(item)}, but must be an object",
            kind=f"a message is {a_type(item)}, but must be an object",
        )
    role = _first(item, ROLE_KEYS)
    if role is None:
        both = {ROLES_OF_PAIRS[name]: name for name in map(str, item) if name in ROLES_OF_PAIRS}
        if set(both) >= {"user", "assistant"}:
            return [
                Message(kind, text_of(item[both[kind]], place))
                for kind in ("system", "user", "assistant")
                if kind in both
            ]
        keys = ", ".join(map(quote, list(map(str, item))[:5])) or "none"
        raise RowFault(f"{place} has no role; keys found: {keys}", kind="a message has no role")
    return [_read_message(item, str(role).strip().casefold(), place)]


def _read_message(item: Mapping[str, Any], role: str, place: str) -> Message:
    if role in TOOL_ROLES or item.get("tool_calls") or item.get("function_call"):
        raise RowFault(
            f"{place} is a tool's call or answer, which can't be trained on here",
            kind="tool calls can't be trained on here",
        )
    if role not in ROLES:
        raise RowFault(
            f"{place} has the role {quote(role)}; known: system, user and assistant",
            kind=f"no role {quote(role)} is known",
        )
    text = _first(item, TEXT_KEYS)
    if text is None:
        raise RowFault(f"{place} has no text", kind="a message has no text")
    return Message(ROLES[role], text_of(text, place), _counts(item, place))


def _counts(item: Mapping[str, Any], place: str) -> bool:
    """Whether an answer counts: OpenAI's "weight", or axolotl's "train"."""
    weight = item.get("weight")
    if weight != weight:  # NaN, which a table writes where there is none
        weight = None
    train = _first(item, ("train", "training"))
    if weight not in (None, 0, 1):
        raise RowFault(
            f"{place} has the weight {weight!r}: only 0 and 1 are known",
            kind="a weight is not 0 or 1",
        )
    if train not in (None, False, True):
        raise RowFault(
            f"{place} has {train!r} under 'train': only true and false are known",
            kind="'train' of a message is not true or false",
        )
    return weight != 0 and train is not False


def text_of(value: Any, place: str) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        value = value["parts"]
    if isinstance(value, list):
        texts = []
        for part in value:
            kind = part.get("type", "text") if isinstance(part, dict) else type_name(part)
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                raise RowFault(
                    f"{place} has a part that is not text: {quote(str(kind))}",
                    kind=f"a part of a message is not text: {quote(str(kind))}",
                )
        return "".join(texts)
    raise RowFault(
        f"{place} is {a_type(value)}, but must be text",
        kind=f"a message is {a_type(value)}, but must be text",
    )


def group_into_turns(messages: Sequence[Message]) -> Conversation:
    """The messages as turns; RowFault if user and assistant don't take turns.

    Several system messages at the start are one. A last question that nobody answers is left out
    and said.
    """
    rest = list(messages)
    systems: list[str] = []
    while rest and rest[0].role == "system":
        systems.append(rest.pop(0).text.strip())
    notes: list[str] = []
    if rest and rest[-1].role == "user":
        rest.pop()
        notes.append("the last question, which has no answer, is not trained on")
    if len(rest) > 2 and rest[-1].role == "assistant" and not rest[-1].text.strip():
        del rest[-2:]
        notes.append("the last question, whose answer is empty, is not trained on")
    if not rest:
        raise RowFault("the conversation has no answer")
    turns: list[Turn] = []
    for i in range(0, len(rest), 2):
        pair = rest[i : i + 2]
        if [message.role for message in pair] != ["user", "assistant"]:
            roles = [message.role for message in messages[:6]]
            if len(messages) > len(roles):
                roles.append("...")
            raise RowFault(
                f"user and assistant don't take turns: {', '.join(roles)}",
                kind="user and assistant don't take turns",
            )
        turns.append(Turn(pair[0].text, pair[1].text, pair[1].counts))
    system = "\n\n".join(text for text in systems if text) or None
    return Conversation(system, tuple(turns), tuple(notes))


# --- marks within one text ------------------------------------------------------------------------
@dataclass(frozen=True)
class Marks:
    """How a template marks a message: what begins it, with its role, and what ends it."""

    begin: re.Pattern[str]
    end: str


TEMPLATES = (
    Marks(re.compile(r"<\|im_start\|>(\w+)\s*?\n"), "<|im_end|>"),  # ChatML
    Marks(re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*"), "<|eot_id|>"),  # Llama 3
    Marks(re.compile(r"<start_of_turn>(\w+)\s*?\n"), "<end_of_turn>"),  # Gemma
    Marks(re.compile(r"<\|(system|user|assistant)\|>\s*"), "<|end|>"),  # Phi-3; Zephyr: </s>
)
# What tokenizers write around a conversation or after a message, and what says nothing.
TOKENIZER_MARKS = (
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<bos>",
    "<eos>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
LEADING_MARKS = re.compile(rf"^(?:\s|{'|'.join(map(re.escape, TOKENIZER_MARKS))})+")
LLAMA_2_MARK = re.compile(r"(\[/?INST\])")
LLAMA_2_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.S)
HH_HEADING = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]*")  # HH-RLHF
# The name of a role before what it says.
HEADINGS = (
    re.compile(r"###[ \t]*(System|Human|User|Assistant)[ \t]*:[ \t]*", re.I),
    HH_HEADING,
    re.compile(r"(?:^|\s)(USER|ASSISTANT):[ \t]*"),  # Vicuna
)


def read_marked_text(text: str) -> Conversation | None:
    r"""The conversation that marks divide a text into; None if it has no marks.

    RowFault for text outside the marks, which belongs to nobody.

    >>> read_marked_text("### Human: Hi### Assistant: Ho").turns
    (Turn(user='Hi', assistant='Ho', counts=True),)
    >>> read_marked_text("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo").turns
    (Turn(user='Hi', assistant='Ho', counts=True),)
    >>> read_marked_text("<s>[INST] Hi [/INST] Ho </s>").turns
    (Turn(user='Hi', assistant='Ho', counts=True),)
    """
    for template in TEMPLATES:
        begins = list(template.begin.finditer(text))
        if len(begins) > 1:
            return _read_template(text, begins, template.end)
    if "[INST]" in text and "[/INST]" in text:
        return _read_llama_2(text)
    for heading in HEADINGS:
        headings = list(heading.finditer(text))
        roles = {ROLES[found[1].casefold()] for found in headings}
        if roles >= {"user", "assistant"}:
            return _read_headings(text, headings)
    return None


def _read_headings(text: str, headings: Sequence[re.Match[str]]) -> Conversation:
    """What stands before the first heading is the system prompt."""
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    before = LEADING_MARKS.sub("", text[: headings[0].start()]).strip()
    parts = [("system", before)] if before else []
    for heading, end in zip(headings, ends, strict=True):
        parts.append((heading[1], _without_end_marks(text[heading.end() : end])))
    return _read_parts(parts)


def _read_template(text: str, begins: Sequence[re.Match[str]], end_mark: str) -> Conversation:
    """Each message from the mark with its role up to the end mark, or to the next message."""
    _check_outside(text[: begins[0].start()])
    parts: list[tuple[str, str]] = []
    ends = [begin.start() for begin in begins[1:]] + [len(text)]
    for begin, end in zip(begins, ends, strict=True):
        said, _, after = text[begin.end() : end].partition(end_mark)
        _check_outside(after)
        parts.append((begin[1], _without_end_marks(said)))
    return _read_parts(parts)


def _read_llama_2(text: str) -> Conversation:
    """[INST] question [/INST] answer; the first question may begin with a system prompt."""
    before, *pieces = LLAMA_2_MARK.split(text)
    _check_outside(before)
    marks = pieces[::2]
    if marks != ["[INST]", "[/INST]"] * (len(marks) // 2):
        raise RowFault("[INST] and [/INST] don't take turns")
    parts: list[tuple[str, str]] = []
    for i, content in enumerate(pieces[1::2]):
        if i % 2:
            parts.append(("assistant", _without_end_marks(content)))
            continue
        system = LLAMA_2_SYSTEM.match(content)
        if system is not None:
            parts.append(("system", system[1]))
            content = content[system.end() :]
        parts.append(("user", content))
    return _read_parts(parts)


def _without_end_marks(text: str) -> str:
    """A message without the marks of a tokenizer at its end."""
    text = text.rstrip()
    while text.endswith(TOKENIZER_MARKS):
        text = text[: text.rindex("<")].rstrip()
    return text


def _check_outside(text: str) -> None:
    text = LEADING_MARKS.sub("", text)
    if text.strip():
        raise RowFault(
            f"{quote(text.strip())} stands outside the marks of the conversation",
            kind="text stands outside the marks of the conversation",
        )


def _read_parts(parts: Sequence[tuple[str, str]]) -> Conversation:
    return group_into_turns(
        [
            _read_message({"content": text.strip()}, role.casefold(), f"message {i}")
            for i, (role, text) in enumerate(parts, start=1)
        ]
    )
