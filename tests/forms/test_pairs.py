"""Preference pairs as people have them: TRL's forms, HH-RLHF, UltraFeedback."""

import cases
import pytest

from ch07.data.tokenizer import load_tokenizer
from ch07.systems.preference_tuning.preference_data import (
    PairDataset,
    collate_pairs,
    fitting_pairs,
    read_preferences,
)
from ch07.utils.errors import DataError
from collate import END_OF_TEXT
from instruction_dataset import BOOK_STYLE

PAIR = {"instruction": "Say hi.", "input": "", "chosen": "Hi!", "rejected": "Go away."}
USER = {"role": "user", "content": "Say hi."}
GOOD = {"role": "assistant", "content": "Hi!"}
BAD = {"role": "assistant", "content": "Go away."}
BEFORE = [{"role": "user", "content": "Are you there?"}, {"role": "assistant", "content": "Yes."}]
HISTORY = {"history": [{"instruction": "Are you there?", "output": "Yes."}]}
FORMS = {
    "the book's": (PAIR, PAIR),
    "a prompt": ({"prompt": "Say hi.", "chosen": "Hi!", "rejected": "Go away."}, PAIR),
    "a question": ({"question": "Say hi.", "chosen": "Hi!", "rejected": "Go away."}, PAIR),
    "a system prompt (Orca)": (
        {"system": "Be kind.", "question": "Say hi.", "chosen": "Hi!", "rejected": "Go away."},
        {**PAIR, "system": "Be kind."},
    ),
    "messages": ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, PAIR),
    "an implicit prompt": ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, PAIR),
    "UltraFeedback": (
        {"prompt": "Say hi.", "chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 9.0},
        PAIR,
    ),
    "a text and messages": ({"prompt": "Say hi.", "chosen": [GOOD], "rejected": [BAD]}, PAIR),
    "HH-RLHF": (
        {
            "chosen": "\n\nHuman: Say hi.\n\nAssistant: Hi!",
            "rejected": "\n\nHuman: Say hi.\n\nAssistant: Go away.",
        },
        PAIR,
    ),
    "HH-RLHF, two turns": (
        {
            "chosen": "\n\nHuman: Are you there?\n\nAssistant: Yes.\n\nHuman: Say hi."
            "\n\nAssistant: Hi!",
            "rejected": "\n\nHuman: Are you there?\n\nAssistant: Yes.\n\nHuman: Say hi."
            "\n\nAssistant: Go away.",
        },
        {**PAIR, **HISTORY},
    ),
    "HH-RLHF, the prompt apart": (
        {
            "prompt": "\n\nHuman: Are you there?\n\nAssistant: Yes.\n\nHuman: Say hi."
            "\n\nAssistant:",
            "chosen": " Hi!",
            "rejected": " Go away.",
        },
        {**PAIR, **HISTORY},
    ),
    "one message as an object": ({"prompt": [USER], "chosen": GOOD, "rejected": BAD}, PAIR),
    "LLaMA-Factory": (
        {
            "conversations": [{"from": "human", "value": "Say hi."}],
            "chosen": {"from": "gpt", "value": "Hi!"},
            "rejected": {"from": "gpt", "value": "Go away."},
        },
        PAIR,
    ),
    "messages and texts": ({"messages": [USER], "chosen": "Hi!", "rejected": "Go away."}, PAIR),
    "Argilla": (
        {"system": "Be kind.", "input": "Say hi.", "chosen": "Hi!", "rejected": "Go away."},
        {**PAIR, "system": "Be kind."},
    ),
    "ms-swift": ({"query": "Say hi.", "response": "Hi!", "rejected_response": "Go away."}, PAIR),
    "OpenAI": (
        {
            "input": {"messages": [USER], "tools": []},
            "preferred_output": [GOOD],
            "non_preferred_output": [BAD],
        },
        PAIR,
    ),
    "content in parts": (
        {
            "prompt": [{**USER, "content": [{"type": "text", "text": "Say hi."}]}],
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
        },
        PAIR,
    ),
    "another answer beside the two": (
        {"prompt": "Say hi.", "response": "Hello.", "chosen": "Hi!", "rejected": "Go away."},
        PAIR,
    ),
    "messages, two turns": (
        {"prompt": [*BEFORE, USER], "chosen": [GOOD], "rejected": [BAD]},
        {**PAIR, **HISTORY},
    ),
    "messages with a system prompt": (
        {
            "prompt": [{"role": "system", "content": "Be kind."}, *BEFORE, USER],
            "chosen": [GOOD],
            "rejected": [BAD],
        },
        {**PAIR, **HISTORY, "system": "Be kind."},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_is_read_in_every_form(tmp_path, form):
    row, pair = FORMS[form]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(cases.jsonl(row))
    (read,) = read_preferences(path).entries
    assert {key: read[key] for key in read if key != "score_chosen"} == pair


@pytest.mark.parametrize("kind", ["csv", "parquet", "gz"])
def test_pairs_in_other_files(tmp_path, kind):
    row = {"prompt": "Say hi.", "chosen": "Hi!", "rejected": "Go away."}
    content = {
        "csv": cases.delimited(",", [row], list(row)).encode(),
        "parquet": cases.columnar("parquet", [row]),
        "gz": cases.gzip.compress(cases.jsonl(row)),
    }[kind]
    path = tmp_path / f"pairs.{kind}"
    path.write_bytes(content)
    assert list(read_preferences(path).entries) == [PAIR]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "Hi!", "rejected": "Go away."}, "missing: 'instruction'; keys found: 'chosen'"),
        ({"chosen": [USER, GOOD], "rejected": [{**USER, "content": "x"}, BAD]},
         "'chosen' and 'rejected' answer different questions"),
        ({"prompt": "x", "chosen": [GOOD]}, "missing: 'rejected'"),
        ({"prompt": [USER], "chosen": [{"role": "tool", "content": "x"}], "rejected": [BAD]},
         "a tool's call"),
        ({"prompt": "x", "completion": "y", "label": True}, "missing: 'chosen', 'rejected'"),
        ({"prompt": [USER], "chosen": 1, "rejected": 2}, "'chosen' is a number, but must be text"),
        ({"prompt": 1, "chosen": [GOOD], "rejected": [BAD]}, "'prompt' is a number, but must be"),
        ({"prompt": [USER], "chosen": ["a", "b"], "rejected": ["c", "d"]}, "'chosen' holds a text"),
    ],
)  # fmt: skip
def test_what_is_no_pair(tmp_path, row, words):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(cases.jsonl(row))
    with pytest.raises(DataError, match=words):
        read_preferences(path)


def test_equal_answers_teach_nothing(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(cases.jsonl({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, PAIR))
    assert list(read_preferences(path).entries) == [PAIR]


def test_only_the_last_answer_of_a_chat_is_preferred():
    """The turns before are the same on both sides, so they say nothing about a preference."""
    tokenizer = load_tokenizer()
    pair = {**PAIR, **HISTORY}
    dataset = PairDataset([pair, PAIR], tokenizer)
    (chosen, rejected, _) = collate_pairs([dataset[0], dataset[1]])
    for (inputs, targets), answer in ((chosen, "Hi!"), (rejected, "Go away.")):
        for row in targets:
            counted = row[row != -100].tolist()
            assert counted == [*tokenizer.encode_ordinary(answer), END_OF_TEXT]
        assert (inputs[0] == END_OF_TEXT).sum() == 1, "the end of the first turn is read"


@pytest.mark.parametrize("long_side", ["chosen", "rejected"])
def test_a_long_conversation_loses_the_same_turns_on_both_sides(tmp_path, long_side):
    """The longer answer decides: both answers must follow one prompt."""
    pair = {**PAIR, **HISTORY, long_side: "Well, " * 9 + "hello."}
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(cases.jsonl(PAIR, pair))
    file = read_preferences(path)
    lengths = PairDataset(file.entries, load_tokenizer()).lengths

    def fit(context_length):
        return fitting_pairs(
            file,
            [0, 1],
            tokenizer=load_tokenizer(),
            style=BOOK_STYLE,
            context_length=context_length,
        )

    whole, found = fit(max(lengths))
    assert [*whole.pairs] == [*file.entries] and not found
    shorter, (note,) = fit(max(lengths) - 1)
    assert shorter.pairs[0] == PAIR and shorter.pairs[1] == {**pair, "history": []}
    assert (note.place, note.level, note.text) == ("line 2", "note", "1 turn left out, the oldest")
    (n_chosen, chosen), (n_rejected, rejected) = (
        (len(counted) - sum(counted), ids) for counted, ids in shorter[1][:2]
    )
    assert chosen[:n_chosen] == rejected[:n_rejected]
    with pytest.raises(DataError, match="line 2: more tokens than the model's context"):
        fit(shorter.lengths[1] - 1)


@pytest.mark.parametrize("key", ["output", "response", "messages"])
def test_an_answer_beside_the_two_is_said_not_to_be_read(tmp_path, key):
    path = tmp_path / "pairs.jsonl"
    beside = [USER, GOOD] if key == "messages" else "Hello."
    path.write_bytes(cases.jsonl({**PAIR, key: beside}))
    file = read_preferences(path)
    assert list(file.entries) == [PAIR]
    assert [found.text for found in file.findings] == [
        f"{key!r} beside the two answers is not read"
    ]


def test_a_system_prompt_is_one_whatever_its_keys(tmp_path):
    """ShareGPT calls the role "from": the prompt has the system message, the answers do not."""
    system = {"from": "system", "value": "Be kind."}
    asked = {"from": "human", "value": "Say hi."}
    sides = {
        side: [asked, {"from": "gpt", "value": text}]
        for side, text in (("chosen", "Hi!"), ("rejected", "Go away."))
    }
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(cases.jsonl({"prompt": [system, asked], **sides}))
    assert list(read_preferences(path).entries) == [{**PAIR, "system": "Be kind."}]
