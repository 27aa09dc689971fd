"""The bundled conversations: generated as they are stored, and none can be answered by one turn."""

from collections import defaultdict

from ch07.data.chat_forms import entries_of_turns, turns_of
from ch07.data.entries import load_entries
from ch07.data.splits import group_key, overlap, split_entries
from ch07.data.toy_instructions.build import as_json
from ch07.data.toy_instructions.conversations import (
    CONVERSATIONS_FILE,
    FOLLOW_UPS,
    KIND_OF,
    NOUNS,
    build_conversations,
)

CHATS = load_entries(CONVERSATIONS_FILE)
SPLITS = split_entries(CHATS)


def test_the_file_is_what_is_generated():
    text = CONVERSATIONS_FILE.read_text(encoding="utf-8")
    assert text == as_json(build_conversations())


def test_a_letter_names_one_noun_of_a_kind():
    for nouns in NOUNS.values():
        letters = [noun[0] for noun in nouns.split()]
        assert len(letters) == len(set(letters)) == 8


def test_the_last_answer_needs_the_turns_before():
    """The same words are followed by many different answers."""
    answers = defaultdict(set)
    for chat in CHATS:
        answers[chat["instruction"]].add(chat["output"])
    assert set(answers) == {text for texts in FOLLOW_UPS.values() for text in texts}
    assert min(map(len, answers.values())) >= len(NOUNS)


def test_no_first_question_is_in_two_splits():
    assert overlap(SPLITS) == {"test": 0, "validation": 0}
    assert [len(SPLITS[name]) for name in ("test", "validation")] == [60, 20]


def test_every_held_out_fact_is_seen_in_training():
    """As an answer after some question about the same noun, in other words."""

    def facts(chats):
        return {
            (noun, turn["output"])
            for chat in chats
            for turn in turns_of(chat)
            for noun in KIND_OF
            if noun in _words(chat)
        }

    assert facts(SPLITS["test"] + SPLITS["validation"]) <= facts(SPLITS["train"])


def _words(chat):
    first = chat["history"][0]
    return f"{first['instruction']} {first['output']}".replace("'", " ").replace(".", " ").split()


def test_some_conversations_have_three_turns():
    lengths = [len(turns_of(chat)) for chat in CHATS]
    assert set(lengths) == {2, 3} and 0.25 < lengths.count(3) / len(lengths) < 0.45


def test_every_turn_becomes_an_entry_of_the_same_group():
    entries = entries_of_turns(CHATS[:50])
    assert len(entries) == sum(len(turns_of(chat)) for chat in CHATS[:50])
    assert {group_key(entry) for entry in entries} == {group_key(chat) for chat in CHATS[:50]}
    for entry in entries:
        assert not {"system"} & set(entry) and entry["family"] == "follow-up"
