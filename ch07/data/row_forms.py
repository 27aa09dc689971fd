"""A row under whatever names its file uses -> a row in Alpaca's form, and what each name was.

The one idea: every form of a row is recognised here, from one table of names (`field_names`), so
all commands read and refuse the same rows, with the same words. A message names the key that
stands in the reader's file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from ch07.data.conversations import (
    Conversation,
    Turn,
    as_messages,
    decoded,
    in_list,
    is_messages,
    read_marked_text,
    read_messages,
    text_of,
)
from ch07.data.field_names import (
    ANSWER_NAMES,
    BESIDE,
    CHAT_NAMES,
    COUNTS,
    FIELDS,
    INPUT_NAMES,
    INPUT_OF_QUESTION,
    INSTANCE_NAMES,
    KNOWN_KEYS,
    LABEL_NAMES,
    MEDIA_NAMES,
    QUESTION_NAMES,
    READ_NAMES,
    SHORT_NAMES,
    SIDE_NAMES,
    SYSTEM_NAMES,
    TEXT_NAME,
)
from ch07.data.findings import RowFault
from ch07.data.json_objects import ObjectWithRepeatedKey, merged
from ch07.utils.console import shell_path
from ch07.utils.errors import DataError
from ch07.utils.validation import MAX_LISTED, a_type, quote

MAX_TREE_DEPTH = 1000  # messages in a path of a tree
ROWS_LOOKED_AT = 1000  # to know whether "input" asks the question in this file

BAD_LABELS = ("0", "0.0", "false", "no", "undesirable")  # of KTO, as tables write them
# Marks of a template in a prompt, whose answer stands under another name.
PYTHON_NOTATION = re.compile(r"\s*(?:\{\s*'\w+'\s*:|\[\s*\{?\s*')")  # {'text': or ['
MARKED_PROMPT = re.compile(r"<\|im_start\|>|\[INST\]|<\|start_header_id\|>|<start_of_turn>")
SECTION = r"((?:(?!\n### ).)*)"  # up to the next heading
ALPACA_TEXT = re.compile(
    rf"\s*(?:Below is an instruction[^#]*)?### Instruction:{SECTION}"
    rf"(?:\n### Input:{SECTION})?\n### Response:{SECTION}",
    re.S,
)
ALPACA_KEYS = {*FIELDS, "family", "split"}

Row = dict[str, Any]
Note = Callable[[str], None]


@dataclass(frozen=True)
class FileForm:
    """What holds for all rows of a file."""

    name: str = "FILE"  # the file's path, for commands that a message suggests
    input_asks: bool = False  # "input" holds the question: no row has another name for it


class NamedValues:
    """The values of a row by the folded names of their keys; a null is an absent value."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row
        self.keys: dict[str, str] = {}  # of each name, the key in the row
        self.same_names: list[tuple[str, str]] = []  # keys that differ in case or spaces alone
        for key, value in row.items():
            name = key.strip().casefold() if isinstance(key, str) else ""
            if value is None:
                continue
            if name in self.keys:
                self.same_names.append((self.keys[name], key))
            self.keys[name] = key

    def __contains__(self, name: str) -> bool:
        return name in self.keys

    def __getitem__(self, name: str) -> Any:
        return self.row[self.keys[name]]

    def all_of(self, names: Sequence[str]) -> list[str]:
        """Those of the names that the row has, in their order."""
        return [name for name in names if name in self.keys]

    def first_of(self, names: Sequence[str]) -> str | None:
        """The first of the names that the row has."""
        return next((name for name in names if name in self.keys), None)

    def holds_text(self, name: str) -> bool:
        """Whether the value is anything but blank text."""
        value = self[name]
        return not isinstance(value, str) or bool(value.strip())

    def chat_name(self) -> str | None:
        """The name of the row's conversation, unless question and answer are there as well."""
        question = self.first_of(QUESTION_NAMES)
        answer = self.first_of(ANSWER_NAMES)
        if question and answer and isinstance(self[question], str) and self.holds_text(answer):
            return None
        if "data" in self and _is_list_of_texts(self["data"]):
            return "data"  # UltraChat
        return self.first_of(CHAT_NAMES)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) for v in value)


# --- all rows of a file ---------------------------------------------------------------------------
def form_of_file(
    name: str, rows: Iterable[tuple[str, Any]]
) -> tuple[FileForm, Iterator[tuple[str, Any]]]:
    """(the file's form, all its (place, row) pairs, with instances apart).

    The first rows decide for all whether "input" asks: in Alpaca's form it doesn't, and a row
    without an instruction is faulty, wherever it stands.
    """
    parts = (part for place, row in rows for part in _instances(place, row))
    first = list(islice(parts, ROWS_LOOKED_AT))
    objects = [NamedValues(row) for _, row in first if isinstance(row, dict)]
    has_question = any(row.first_of(QUESTION_NAMES) or row.chat_name() for row in objects)
    has_input = any("input" in row and row.first_of(ANSWER_NAMES) for row in objects)
    form = FileForm(name, input_asks=has_input and not has_question)
    rest = _check_form(parts, name) if form.input_asks else parts
    return form, chain(first, rest)


def _check_form(rows: Iterable[tuple[str, Any]], name: str) -> Iterator[tuple[str, Any]]:
    """The rows; DataError where one contradicts what the first ones said about "input"."""
    for place, row in rows:
        question = NamedValues(row).first_of(QUESTION_NAMES) if isinstance(row, dict) else None
        if question is not None:
            raise DataError(
                f"{name}: {place} has {quote(question)}, but the first {ROWS_LOOKED_AT:,} rows "
                "have only 'input', which was read as the instruction: use one form in the file"
            )
        yield place, row


def _instances(place: str, row: Any) -> Iterator[tuple[str, Any]]:
    """The row, or one row for each of its instances (Self-Instruct, SQuAD as published)."""
    parts = _parts_of(row) if isinstance(row, dict) else None
    if parts is None:
        yield place, row
    elif len(parts) == 1:
        yield place, parts[0]
    else:
        yield from ((f"{place}, instance {i}", part) for i, part in enumerate(parts, start=1))


def _parts_of(row: Row) -> list[Row] | None:
    if not any(isinstance(value, list | dict) for value in row.values()):
        return None
    values = NamedValues(row)
    name = values.first_of(INSTANCE_NAMES)
    if name is not None:
        instances = values[name] if isinstance(values[name], list) else [values[name]]
        if instances and all(isinstance(instance, dict) for instance in instances):
            rest = {key: value for key, value in row.items() if key != values.keys[name]}
            rest = merged(row, rest) if isinstance(row, ObjectWithRepeatedKey) else rest
            return [merged(rest, _with_answers(instance)) for instance in instances]
    if isinstance(row.get("paragraphs"), list):
        return _squad_questions(row["paragraphs"])
    if isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]:
        return _paths_of_tree(row)
    return None


def _with_answers(instance: Row) -> Row:
    """An instance whose output is a list, of which each is right, has "answers" instead."""
    if not isinstance(instance.get("output"), list):
        return instance
    renamed = {"answers" if key == "output" else key: value for key, value in instance.items()}
    return merged(instance, renamed) if isinstance(instance, ObjectWithRepeatedKey) else renamed


def _squad_questions(paragraphs: list[Any]) -> list[Row] | None:
    """The questions of an article, as SQuAD is published."""
    try:
        return [
            merged({"context": paragraph["context"]}, question)
            for paragraph in paragraphs
            for question in paragraph["qas"]
        ]
    except (TypeError, KeyError):
        return None


def _paths_of_tree(row: Row) -> list[Row] | None:
    """A conversation for each path from the first message to a last answer (OpenAssistant).

    None for a tree that is deeper than any conversation.
    """
    paths: list[list[Any]] = []
    pending = [[row["prompt"]]]
    while pending:
        path = pending.pop()
        if len(path) > MAX_TREE_DEPTH:
            return None
        replies = path[-1].get("replies") if isinstance(path[-1], dict) else None
        if isinstance(replies, list) and replies:
            pending += [[*path, reply] for reply in reversed(replies)]
        else:
            paths.append(path)
    rest = {key: value for key, value in row.items() if key != "prompt"}
    return [merged(rest, {"messages": path}) for path in paths]


# --- one row --------------------------------------------------------------------------------------
def is_row(value: Mapping[str, Any]) -> bool:
    """Whether a single object is itself a row, perhaps a faulty one, not a container of rows."""
    values = NamedValues(value)
    sides = (name for names in SIDE_NAMES.values() for name in names)
    if values.chat_name() or values.first_of((*INSTANCE_NAMES, *sides, "instruction")):
        return True
    if values.first_of((*QUESTION_NAMES, "input")) and values.first_of(ANSWER_NAMES):
        return True
    return isinstance(value.get(TEXT_NAME), str) or isinstance(value.get("prompt"), dict)


def recognise_row(row: Row, form: FileForm, note: Note) -> tuple[Row, dict[str, str]]:
    """(the row in Alpaca's form, for each of its fields the key in the file).

    The fields may still be of any type. `note` is told under which names they were found. RowFault
    if the row has no known form.
    """
    if _is_in_alpaca_form(row):
        return {**row, "input": row.get("input", "")}, dict(zip(FIELDS, FIELDS, strict=True))
    values = NamedValues(row)
    _check_same_names(values)
    _check_label(values)
    _check_media(values)
    fields_of_text = _template_fields(values, note)
    if fields_of_text is not None:
        rest = {key: value for key, value in row.items() if key != values.keys[TEXT_NAME]}
        row = {**rest, **fields_of_text}
        values = NamedValues(row)
    conversation = _conversation(values)
    if conversation is not None:
        return _from_conversation(values, *conversation, note)
    question = _question_name(values, form)
    answer = _answer_name(values)
    if question is None or answer is None:
        raise RowFault(_missing_fields(values, question, answer, form))
    fields = {"instruction": question, "output": answer}
    source = _input_name(values, question, note)
    if source is not None:
        fields["input"] = source
    system = values.first_of(SYSTEM_NAMES)
    if system is not None:
        fields["system"] = system
        row = {**row, values.keys[system]: _system_text(values, system)}
    keys = {name: values.keys[source] for name, source in fields.items()}
    if (keys["instruction"], keys["output"]) != ("instruction", "output"):
        note(f"{keys['instruction']}/{keys['output']} read as instruction/output")
    for name in ("input", "system"):
        if keys.get(name, name) != name:
            note(f"{quote(keys[name])} read as {name!r}")
    entry = _renamed(row, keys)
    if question == "definition" and _is_texts(entry["instruction"]):
        entry["instruction"] = "\n".join(entry["instruction"])  # as SuperNI publishes it
    if entry.get("history") is not None:
        entry["history"] = _read_history(decoded(entry["history"]))
    if not entry.get("history"):
        entry.pop("history", None)
    entry["output"] = _first_answer(entry["output"], keys["output"], note)
    return entry, keys


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _check_same_names(values: NamedValues) -> None:
    """RowFault for two keys that are one name, if both hold something."""
    for one, other in values.same_names:
        if other.strip().casefold() in READ_NAMES and values.row[one] not in (
            "",
            values.row[other],
        ):
            raise RowFault(f"{quote(one)} and {quote(other)} are the same name: leave one out")


def _is_in_alpaca_form(row: Row) -> bool:
    """Whether there is nothing to look for, as in most rows: all keys are ours, none is null."""
    if not (row.keys() <= ALPACA_KEYS and "instruction" in row and "output" in row):
        return False
    return None not in row.values() and bool(row.get("split", True)) and bool(row.get("family", 1))


def _renamed(row: Row, keys: Mapping[str, str]) -> Row:
    """The row with its fields under our names; other keys are kept, in their order."""
    name_of = {key: name for name, key in keys.items()}
    entry: Row = {}
    for key, value in row.items():
        if key in name_of:
            entry[name_of[key]] = value
            continue
        folded = key.strip().casefold() if isinstance(key, str) else key
        if folded in KNOWN_KEYS and (value is None or value == "" or folded in FIELDS):
            continue  # absent; or blank beside another name that holds the field
        entry[folded if folded in KNOWN_KEYS else key] = value
    entry.setdefault("input", "")
    return entry


# --- which name holds which field -----------------------------------------------------------------
def _question_name(values: NamedValues, form: FileForm) -> str | None:
    if form.input_asks:
        return "input" if "input" in values else None
    names = _filled(values, QUESTION_NAMES)
    for question, about in INPUT_OF_QUESTION.items():
        if question in names and about in names:
            names.remove(about)
    if "instruction" in names and "output" in values:
        return "instruction"
    return _only_one(values, names, "question")


def _answer_name(values: NamedValues) -> str | None:
    names = _filled(values, ANSWER_NAMES)
    if "instruction" in values and "output" in names:
        return "output"
    return _only_one(values, names, "answer")


def _filled(values: NamedValues, names: Sequence[str]) -> list[str]:
    """Those of the names that the row has; blank ones, as a table fills them, only if all are."""
    present = values.all_of(names)
    filled = [name for name in present if values.holds_text(name)]
    if all(name in SHORT_NAMES for name in filled):
        return present
    return filled


def _only_one(values: NamedValues, names: list[str], what: str) -> str | None:
    """The first of the names; RowFault if another one holds such a text as well."""
    if not names:
        return None
    first, *others = names
    for other in others:
        if other in SHORT_NAMES or other in BESIDE.get(first, ()) or not values.holds_text(other):
            continue
        if values[other] != values[first]:
            raise RowFault(
                f"{quote(values.keys[first])} and {quote(values.keys[other])} both hold the "
                f"{what}: leave one of them out"
            )
    return first


def _input_name(values: NamedValues, question: str, note: Note) -> str | None:
    """The name that holds the input: of several, the first that isn't blank."""
    known = [INPUT_OF_QUESTION[question]] if question in INPUT_OF_QUESTION else []
    names = [name for name in values.all_of([*known, *INPUT_NAMES]) if name != question]
    filled = [name for name in names if values.holds_text(name)]
    for other in filled[1:]:
        first, second = values.keys[filled[0]], values.keys[other]
        note(f"{quote(first)} is the input; {quote(second)}, which holds text too, is not read")
    return next(iter(filled or names), None)


def _first_answer(value: Any, key: str, note: Note) -> Any:
    """The text itself, or the first of several right answers, as in SQuAD."""
    if key.casefold() in ("answers", "targets"):
        value = decoded(value)
        if isinstance(value, str) and PYTHON_NOTATION.match(value):
            raise RowFault(
                f"{quote(key)} is a list or object in Python's notation: write it as JSON"
            )
    texts = value
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        texts = value["text"]
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        texts = [item.get("text", item.get("answer")) for item in value]
    if not isinstance(texts, list) or key.casefold() not in ("answers", "targets"):
        return value
    if not texts:
        raise RowFault(f"{quote(key)} is empty", "dropped")
    texts = [text for text in texts if text != ""] or texts
    if len(set(map(str, texts))) > 1:
        note(f"the first of several texts under {quote(key)} was read")
    return texts[0]


def _check_label(values: NamedValues) -> None:
    """RowFault for an answer that is marked as a bad one, as in KTO's form.

    A "label" of other rows, as of a question and its answer, may be anything.
    """
    name = values.first_of(LABEL_NAMES)
    if name is None:
        return
    has_completion = "prompt" in values and values.first_of(("completion", "response")) is not None
    is_kto = name == "kto_tag" or has_completion or values.chat_name() is not None
    label = values[name]
    if isinstance(label, str):
        label = label.strip().casefold()
    if is_kto and label in (False, 0, *BAD_LABELS):
        raise RowFault(f"{quote(values.keys[name])} marks the answer as a bad one", "dropped")


def _check_media(values: NamedValues) -> None:
    """RowFault for a row that comes with a picture, a video or a sound."""
    for name in MEDIA_NAMES:
        if name in values and values.holds_text(name) and values[name] not in ([], {}):
            raise RowFault(
                f"{quote(values.keys[name])} holds a picture, video or sound, which can't be "
                "trained on here"
            )


def _template_fields(values: NamedValues, note: Note) -> dict[str, str] | None:
    """The fields in a `text` that is written in Alpaca's template; None for any other row."""
    if TEXT_NAME not in values or values.first_of((*QUESTION_NAMES, *ANSWER_NAMES)):
        return None
    text = values[TEXT_NAME]
    found = ALPACA_TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    key = values.keys[TEXT_NAME]
    note(f"{quote(key)} read as instruction, input and output: it is Alpaca's template")
    return {name: (part or "").strip() for name, part in zip(FIELDS, found.groups(), strict=True)}


def _missing_fields(
    values: NamedValues, question: str | None, answer: str | None, form: FileForm
) -> str:
    """Which fields a row lacks, what it has instead, and a way out where one is known."""
    keys = ", ".join(quote(str(key)) for key in list(values.row)[:MAX_LISTED]) or "none"
    found = {"instruction": question, "output": answer}
    missing = [name for name, source in found.items() if source is None]
    faults = [f"{name!r} is {'null' if name in values.row else 'missing'}" for name in missing]
    if missing == list(found) and not any(name in values.row for name in missing):
        faults = ["'instruction' and 'output' are missing"]
    text = f"{' and '.join(faults)}; keys found: {keys}"
    if all(values.first_of(names) for names in SIDE_NAMES.values()):
        return f"{text}; this is a preference pair: python -m ch07 prefer RUN {_shell(form)}"
    if "input" in values and answer is not None and not form.input_asks:
        return text + "; 'input' is not the question here, because other rows have one"
    if "parent_id" in values:
        return f"{text}; each row is one message of a tree: give a file of whole conversations"
    if TEXT_NAME in values and question is None:
        command = f"python -m ch07 pretrain --corpus {_shell(form)}"
        return f"{text}; {TEXT_NAME!r} alone is for pretraining: {command}"
    return text


def _shell(form: FileForm) -> str:
    return shell_path(form.name)


# --- conversations --------------------------------------------------------------------------------
def _conversation(values: NamedValues) -> tuple[list[str], Conversation] | None:
    """(the keys, the conversation under them), or None; RowFault if it can't be read."""
    name = values.chat_name()
    if name is not None:
        key = values.keys[name]
        try:
            return [key], read_messages(decoded(values[name]))
        except RowFault as fault:
            raise RowFault(f"{quote(key)}: {fault}", kind=fault.kind) from None
    answer = values.first_of(("completion", *ANSWER_NAMES))
    names = [name for name in ("prompt", answer) if name is not None and name in values]
    keys = [values.keys[name] for name in names]
    is_trl = "prompt" in names or answer == "completion"
    if is_trl and any(is_messages(in_list(decoded(values[name]))) for name in names):
        messages: list[Any] = []
        for name, key in zip(names, keys, strict=True):
            messages += as_messages(values[name], "user" if name == "prompt" else "assistant", key)
        return keys, read_messages(messages)
    asks = values.first_of(QUESTION_NAMES) == "prompt"
    if asks and len(names) == 2 and all(isinstance(values[name], str) for name in names):
        prompt, completion = (values[name] for name in names)
        if MARKED_PROMPT.search(prompt):
            conversation = read_marked_text(prompt + completion)
            if conversation is not None:
                return keys, conversation
    alone = TEXT_NAME in values and not values.first_of((*QUESTION_NAMES, *ANSWER_NAMES))
    if alone and isinstance(values[TEXT_NAME], str):
        conversation = read_marked_text(values[TEXT_NAME])
        if conversation is not None:
            return [values.keys[TEXT_NAME]], conversation
    return None


def _from_conversation(
    values: NamedValues, keys: list[str], conversation: Conversation, note: Note
) -> tuple[Row, dict[str, str]]:
    """The last turn as the row's fields; system prompt and earlier turns beside them."""
    *earlier, last = conversation.turns
    if not any(turn.counts for turn in conversation.turns):
        raise RowFault("no answer of the conversation has a weight other than 0", "dropped")
    for text in conversation.notes:
        note(text)
    name = "/".join(keys)
    note(f"{quote(name)} read as a conversation")
    entry: Row = {"instruction": last.user, "input": "", "output": last.assistant}
    system_name = values.first_of(SYSTEM_NAMES)
    system = conversation.system
    name_of_system = name
    if system is None and system_name is not None:
        system = _system_text(values, system_name)
        name_of_system = values.keys[system_name]
        keys = [*keys, name_of_system]
    if system:
        entry["system"] = system
    if earlier or not last.counts:
        entry["history"] = [_turn_of_entry(turn) for turn in earlier]
    if not last.counts:
        entry[COUNTS] = False
    for key, value in values.row.items():
        if key in keys or value is None:
            continue
        folded = key.strip().casefold() if isinstance(key, str) else key
        if folded in (*FIELDS, *SYSTEM_NAMES, "history", COUNTS):
            if value != "":
                note(f"{quote(str(key))} beside the conversation {quote(name)} is not read")
        else:
            entry[folded if folded in KNOWN_KEYS else key] = value
    return entry, {"instruction": name, "output": name, "system": name_of_system}


def _system_text(values: NamedValues, name: str) -> Any:
    """The system prompt, which services take in parts as well."""
    value = decoded(values[name])
    if not isinstance(value, list | dict):
        return values[name]
    key = quote(values.keys[name])
    return text_of(value, key)


def _turn_of_entry(turn: Turn) -> Row:
    counts = {} if turn.counts else {COUNTS: False}
    return {"instruction": turn.user, "output": turn.assistant, **counts}


def _read_history(value: Any) -> list[Row]:
    """The turns before a row's own: pairs of texts (LLaMA-Factory), or objects of two fields."""
    if not isinstance(value, list):
        raise RowFault(f"'history' is {a_type(value)}, but must be a list of turns")
    turns: list[Row] = []
    for i, turn in enumerate(value, start=1):
        if isinstance(turn, list) and len(turn) == 2:
            turns.append({"instruction": turn[0], "output": turn[1]})
        elif isinstance(turn, dict) and {"instruction", "output"} <= turn.keys():
            turns.append(turn)
        else:
            raise RowFault(
                f"turn {i} of 'history' is not a pair of question and answer",
                kind="a turn of 'history' is not a pair of question and answer",
            )
    return turns
