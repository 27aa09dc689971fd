"""Magpie's instruction and Reflection-Tuning's blocks: as in the originals, and where they differ.

The originals, as written down here: Raschka's `extract_instruction` and Magpie's gen_ins.py;
`extract_ins` and `extract_oup` of Reflection-Tuning's reflect_instruction_postprocess.py, and
`extract_segments` of reflect_response_postprocess.py (`extract_response` in Raschka's notebook).
"""

import random

import pytest

from ch07.generation.completion import Completion, scripted
from ch07.systems.synthetic_data.magpie import magpie_row
from ch07.systems.synthetic_data.reflection import (
    BLOCKS,
    INSTRUCTION_PROMPT,
    RESPONSE_PROMPT,
    bracketed_block,
    reflect_instruction,
    reflect_response,
)

# --- Magpie ---------------------------------------------------------------------------------------

MAGPIE_PIECES = [
    "Why?",
    " ",
    "\n",
    "\n\n",
    "\t",
    "Tell me",
    "\r",
    "\u2028",
    "assistant",
    "1. ",
    "é",
]


def first_line(text):
    """Raschka's: the first line that has a character, trimmed; None if there is none."""
    line = next((line for line in text.split("\n") if line != ""), None)
    return line if line is None else line.strip()


def magpie_instruction(text, stop):
    return magpie_row(lambda prompt, **options: Completion(text), "<user>", stop=stop)


def random_magpie_texts():
    draw = random.Random(0)
    for _ in range(1000):
        yield "".join(draw.choices(MAGPIE_PIECES, k=draw.randrange(7)))


def test_the_instruction_is_the_notebooks_first_line():
    n_kept = n_blank = 0
    for text in random_magpie_texts():
        row, outcome = magpie_instruction(text, stop="<end>")
        expected = first_line(text)
        if expected:
            assert (row["instruction"], outcome) == (expected, "kept"), repr(text)
            n_kept += 1
        elif not text.strip():
            assert outcome == "empty", "the notebook sends None or '' to the model as a question"
        else:
            assert row["instruction"] == first_line(text.lstrip())
            n_blank += 1  # a line of spaces alone: the notebook takes it as an empty instruction
    assert n_kept > 500 and n_blank > 30


def test_the_instruction_is_that_of_gen_ins_which_stops_at_a_newline():
    n_kept = 0
    for text in random_magpie_texts():
        row, outcome = magpie_row(scripted([text]), "<user>")
        expected = text.split("\n")[0].strip()
        assert row["instruction"] == expected, repr(text)
        assert outcome == ("kept" if expected else "empty")
        n_kept += bool(expected)
    assert n_kept > 400


# --- Reflection: the originals --------------------------------------------------------------------


def between(text, start, ends, to_the_end):
    """The text from `start` to the nearest of `ends`, trimmed; "" if it has no start or no end."""
    _, found, rest = text.partition(start)
    positions = [rest.index(end) for end in ends if end in rest]
    if not found or not (positions or to_the_end):
        return ""
    return rest[: min(positions, default=len(rest))].strip()


def original_instruction(reply):
    start = "[New Instruction]" if "[New Instruction]" in reply else "New Instruction:"
    ends = ["[End]", "[New Answer]", "New Answer:"]
    return between(reply, start, ends, to_the_end=False).removesuffix("\n\n3.")


def original_answer(reply):
    start = "[New Answer]" if "[New Answer]" in reply else "New Answer:"
    return between(reply, start, ["[End]"], to_the_end=True)


def original_better_answer(reply):
    """The first one, as in the notebook."""
    several = reply.count("[Better Answer]") >= 2
    ends = ["[End]", "[Better Answer]"] if several else ["[End]", "End"]
    return between(reply, "[Better Answer]", ends, to_the_end=True)


ORIGINALS = {
    "New Instruction": original_instruction,
    "New Answer": original_answer,
    "Better Answer": original_better_answer,
}

# --- replies on which both agree ------------------------------------------------------------------

LINES = [
    *["It is dull.", "1. one\n2. two", "a: b", "[Start] x [/Start]", "the end", "new answer", "é"],
    *["{x} %s", "- **bold**", "# Title", "Answer: yes", "(endless)", "`[0]`", "3 < 4"],
]


def random_lines(draw, least):
    return draw.choice(["\n", "\n\n", " "]).join(draw.choices(LINES, k=draw.randrange(least, 5)))


def random_reply(draw):
    """Criticism, then the blocks; each ends at [End], or the answer at the end of the reply."""
    one, two = random_lines(draw, 1), random_lines(draw, 1)
    criticism = random_lines(draw, 0)
    form = draw.choice(
        [
            "{0}\n[New Instruction] {1} [End]\n[New Answer] {2} [End]{0}",
            "{0}\n2. [New Instruction]\n{1}\n[End]\n\n3. [New Answer]\n{2}",
            "{0} [New Instruction] {1}\n\n3. [New Answer] {2} [End]",
            "{0}\nNew Instruction: {1}\nNew Answer: {2}",
            "{0}\nNew Instruction: {1}\n\n3. New Answer: {2}\n",
            "{0}\nNew Instruction: {1}\nNew Answer: {2} [End] {0}",
            "[New Answer] {2} [End] [New Instruction] {1} [End]",
            "{0} [Better Answer] {1} [End]",
            "{0}\n\n2. [Better Answer]\n{1}\n[End]\n{0}",
            "{0} [Better Answer] {1}",
            "[Better Answer] {1} [End] {0} [Better Answer] {2} [End]",
            "[Better Answer] {1} [Better Answer] {2}",
            "{0}",
        ]
    )
    return form.format(criticism, one, two)


def test_replies_in_the_form_are_parsed_alike():
    draw = random.Random(1)
    found = dict.fromkeys(BLOCKS, 0)
    for _ in range(1500):
        reply = random_reply(draw)
        for name, original in ORIGINALS.items():
            block = bracketed_block(reply, name)
            assert (block or "") == original(reply), (name, reply)
            found[name] += block is not None
    assert min(found.values()) > 300


# --- replies on which they differ -----------------------------------------------------------------

DIFFERENCES = {  # the block, a reply, what the original finds ("": nothing), what is found here
    "the word End in an answer": (
        "Better Answer", "[Better Answer] At the End of May. [End]",
        "At the", "At the End of May.",
    ),
    "Endless": ("Better Answer", "[Better Answer] Endless joy", "", "Endless joy"),
    "a label in the text of a closed block": (
        "New Instruction", "[New Instruction] Is New Answer: a header? [End]",
        "Is", "Is New Answer: a header?",
    ),
    "an instruction that nothing closes": ("New Instruction", "[New Instruction] Why?", "", "Why?"),
    "the instruction after an answer that nothing closes": (
        "New Answer", "[New Answer] Blue [New Instruction] Why? [End]",
        "Blue [New Instruction] Why?", "Blue",
    ),
    "a label within a line": ("New Answer", "This New Answer: none of it.", "none of it.", None),
    "a label in bold type": ("New Answer", "**New Answer:** Blue", "** Blue", "Blue"),
    "a label with Better Answer": ("Better Answer", "Better Answer: Blue", "", "Blue"),
    "a colon after the bracket": ("New Answer", "[New Answer]: Blue [End]", ": Blue", "Blue"),
    "lower case": ("New Answer", "[new answer] Blue [end]", "", "Blue"),
    "a list number after an answer": (
        "New Answer", "[New Answer] Blue\n\n4.", "Blue\n\n4.", "Blue",
    ),
    "a block in brackets for one field, a label for the other": (
        "New Answer", "[New Instruction] Why?\nNew Answer: So.\nNew Instruction: no",
        "So.\nNew Instruction: no", "So.",
    ),
    "an instruction that repeats the prompt": (
        "New Instruction", "[New Instruction] the better instruction [End]",
        "the better instruction", None,
    ),
    "an answer that repeats the prompt": (
        "Better Answer", "[Better Answer] The better answer [End]",
        "The better answer", None,
    ),
    "not applicable": ("New Answer", "[New Answer] N/A [End]", "N/A", None),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_is_deliberate(name):
    block, reply, original, ours = DIFFERENCES[name]
    assert ORIGINALS[block](reply) == original
    assert bracketed_block(reply, block) == ours


ROW = {"instruction": "Name a colour.", "input": "", "output": "Red"}


def test_a_row_is_replaced_as_a_whole_or_not_at_all():
    """The originals mix: an old instruction with a new answer, or the reverse."""
    for reply in ("[New Instruction] Why? [End]", "[New Answer] So. [End]"):
        assert reflect_instruction(scripted([reply]), ROW) == {**ROW, "reflected": False}


def test_a_reply_that_repeats_the_prompt_replaces_nothing():
    """Its block is the prompt's example of the form, and no answer (the originals look, too)."""
    for reflect, prompt in (
        (reflect_instruction, INSTRUCTION_PROMPT),
        (reflect_response, RESPONSE_PROMPT),
    ):
        form = prompt.split("in this\nform:")[-1].split("in this form:")[-1]
        assert form.count("[End]") >= 1
        assert reflect(scripted([form]), ROW) == {**ROW, "reflected": False}


def test_the_prompts_have_the_words_that_count_as_repeated():
    prompts = INSTRUCTION_PROMPT + RESPONSE_PROMPT
    for name, words in BLOCKS.items():
        assert prompts.count(f"[{name}] {words} [End]") == 1
