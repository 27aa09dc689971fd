"""Magpie and Reflection-Tuning: prompts and options sent, parsing of replies, failures."""

import pytest
from completion_server import ollama, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.data.prompt_styles import STYLES
from ch07.generation.backends import open_backend
from ch07.generation.completion import Completion, CompletionError, scripted
from ch07.systems.synthetic_data.magpie import LLAMA_3, input_query, magpie_generate, magpie_queries
from ch07.systems.synthetic_data.reflection import (
    CRITIC,
    bracketed_block,
    reflect_instruction,
    reflect_response,
)
from instruction_dataset import RESPONSE_HEADER

ROW = {"instruction": "Name a colour.", "input": "", "output": "Red", "family": "colours"}

# --- magpie -------------------------------------------------------------------------------------


def recording_complete(answers, requests):
    """A scripted `complete` that appends each (prompt, options) to `requests`."""
    complete = scripted(answers)

    def ask(prompt, **options):
        requests.append((prompt, options))
        return complete(prompt, **options)

    return ask


def test_magpie_generates_an_instruction_and_its_answer():
    requests = []
    before, after = LLAMA_3
    complete = recording_complete(["What is rain? \nMore", " Water.\n"], requests)
    result = magpie_generate(complete, before, 1, post_query=after)
    assert result.rows == [{"instruction": "What is rain?", "input": "", "output": "Water."}]
    (first, options), (second, more) = requests
    assert first == before and second == before + "What is rain?" + after
    default = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 2048}
    assert options == {**default, "stop": ["\n"], "seed": 123}
    assert "stop" not in more, "an answer may have several lines"


def test_dropped_instructions_are_counted_by_outcome():
    script = ["", "Name a colour.", "name  a COLOUR.", Completion("Half of an", "length"), "Dull.",
              "Sort these."]  # fmt: skip
    seen = []

    def is_new(instruction):
        seen.append(instruction)
        return instruction != "Dull."

    result = magpie_generate(scripted(script), "<user>", 2, is_new=is_new)
    assert [row["instruction"] for row in result.rows] == ["Name a colour.", "Sort these."]
    assert result.counts == {"empty": 1, "kept": 2, "old": 2, "cut": 1}
    assert seen == ["Name a colour.", "Dull.", "Sort these."], (
        "`is_new` is not called for duplicates"
    )
    assert result.rows[0]["output"] == ""


def test_generation_ends_after_the_maximum_number_of_tries():
    result = magpie_generate(scripted(lambda prompt: "Again."), "<user>", 3)
    assert len(result.rows) == 1 and result.counts == {"kept": 1, "old": 29}
    assert magpie_generate(scripted([]), "<user>", 0).rows == []
    silent = scripted(lambda prompt: "Why?" if prompt == "<user>" else " ")
    result = magpie_generate(silent, "<user>", 1, post_query="<model>", max_tries=1)
    assert result.rows == [] and result.counts == {"unanswered": 1}
    long = scripted(["Why?", Completion("Since", "length")])
    assert magpie_generate(long, "<user>", 1, post_query="<model>", max_tries=1).rows == []


def test_the_instruction_is_the_first_line_that_is_not_empty():
    result = magpie_generate(
        scripted(["\n \nWhat is rain?\nAnd snow?<end>no"]), "<user>", 1, stop="<end>"
    )
    assert result.rows[0]["instruction"] == "What is rain?"


def test_rows_depend_on_the_seed_and_each_try_has_its_own():
    def drawn(prompt, seed, **options):
        return Completion(f"Count to {seed % 7}.")

    one, same, other = (magpie_generate(drawn, "<user>", 4, seed=seed) for seed in (1, 1, 2))
    assert one == same and one.rows != other.rows
    assert len({row["instruction"] for row in one.rows}) == 4


def test_ollama_receives_a_raw_prompt_and_the_options_it_reads():
    with serving((200, ollama("Why?", raw=True))) as stub:
        complete = open_backend(stub.url, "llama3", kind="ollama", raw=True)
        magpie_generate(complete, LLAMA_3[0], 1, seed=5, max_new_tokens=9)
    ((path, _, body),) = stub.asked
    assert path == "/api/generate" and body["raw"] is True and body["prompt"] == LLAMA_3[0]
    assert body["options"] == {
        "num_predict": 9, "temperature": 1.0, "top_p": 1.0, "seed": 5, "stop": ["\n"],
    }  # fmt: skip


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_newline_ends_an_instruction(separator):
    asked = f"Explain{separator}this."
    result = magpie_generate(scripted([f"{asked}\nMore", "Yes."]), "?", 1, post_query="!")
    assert result.rows == [{"instruction": asked, "input": "", "output": "Yes."}]


def test_the_queries_with_an_input_make_up_the_styles_prompt():
    found = {name: input_query(style) for name, style in STYLES.items()}
    assert found["alpaca"] is None, "its prompts with an input begin differently"
    entry = {"instruction": "Sort.", "input": "b, a"}
    for name, between in found.items():
        if between is not None:
            before, after = magpie_queries(STYLES[name])
            assert STYLES[name].prompt(entry) == f"{before}Sort.{between}b, a{after}"
    assert sum(between is not None for between in found.values()) >= 2


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_the_queries_make_up_the_styles_prompt(style):
    before, after = magpie_queries(style)
    assert f"{before}Why?{after}" == style.prompt({"instruction": "Why?"})
    assert style.name != "book" or after == RESPONSE_HEADER


# --- reflection ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("It is dull.\n[New Answer] Blue,\nand why. [End]\nDone", "Blue,\nand why."),
        ("[New Answer] Blue", "Blue"),
        ("[New Answer] Blue [New Instruction] Say more. [End]", "Blue"),
        ("[New Answer] first [End] [New Answer] second [End]", "first"),
        ("[New Answer] Endless joy at the End. [End]", "Endless joy at the End."),
        ("[new answer] blue [end]", "blue"),
        ("[New Answer]: Blue [End]", "Blue"),
        ("Faults.\nNew Answer: Blue\nNew Instruction: Why?", "Blue"),
        ("2. [New Answer] Blue\n\n3. ", "Blue"),
        ("[New Answer] 1. one\n2. two [End]", "1. one\n2. two"),
        ("[New Answer] [End]", None),
        (
            "[New Answer] She wrote:\nNew Answer: no.\nThen she left. [End]",
            "She wrote:\nNew Answer: no.\nThen she left.",
        ),
        ("[New Instruction] Why?\nNew Answer: So.", "So."),
        ("[New Answer] Blue\nNew Instruction: Why?", "Blue"),
        (
            "1. It is dull.\n2. New Instruction: Why?\n3. New Answer: Blue,\nand why.\n4. ",
            "Blue,\nand why.",
        ),
        ("2) New Answer: Blue\n3) New Instruction: Why?", "Blue"),
        ("**New Instruction:** Why?\n\n**New Answer:** Blue", "Blue"),
        ("### New Answer: Blue\n### New Instruction: Why?", "Blue"),
        ("New Answer: 1. one\n2. two", "1. one\n2. two"),
        ("[New Answer]", None),
        ("I see no fault with it.", None),
        ("This new answer: none", None),
        ("", None),
    ],
)
def test_bracketed_block_parses_replies(reply, found):
    assert bracketed_block(reply, "New Answer") == found


def test_reflect_instruction_replaces_instruction_and_answer():
    requests = []
    reply = "Dull.\n[New Instruction] Why is the sky blue? [End]\n[New Answer] It scatters. [End]"
    row = reflect_instruction(recording_complete([reply], requests), ROW)
    new = {"instruction": "Why is the sky blue?", "output": "It scatters."}
    assert row == {**ROW, **new, "reflected": True}
    ((prompt, options),) = requests
    assert "Name a colour." in prompt and "\nRed\n" in prompt and options["system"] == CRITIC
    assert options["temperature"] == 0.0 and options["seed"] == 123
    row = {**ROW, "input": "sky"}
    assert reflect_instruction(scripted([]), row) == {**row, "reflected": False}, (
        "no request is sent"
    )


def test_reflect_response_replaces_the_answer():
    requests = []
    row = {**ROW, "input": "{output} %s"}
    better = reflect_response(
        recording_complete(["[Better Answer] Dark red [End]"], requests), row, system=None
    )
    assert better == {**row, "output": "Dark red", "reflected": True}
    assert "It works on this:\n{output} %s" in requests[0][0] and requests[0][1]["system"] is None


@pytest.mark.parametrize("reflect", [reflect_instruction, reflect_response])
@pytest.mark.parametrize(
    "reply",
    ["", "Fine as it is.", "[New Instruction] Why? [End]", "[New Answer] a [End]",
     Completion("[New Instruction] a [End] [New Answer] b [Better Answer] b", "length")],
)  # fmt: skip
def test_an_unparsable_or_cut_reply_leaves_the_row_unchanged(reflect, reply):
    assert reflect(scripted([reply]), ROW) == {**ROW, "reflected": False}


def test_a_long_reply_is_parsed_in_linear_time():
    """A regular expression with nested repetitions would take hours."""
    reply = "[Better Answer] a" + "\n" * 100_000 + "b [End]"
    assert bracketed_block(reply, "Better Answer").endswith("b")


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60))
def test_random_replies_never_give_an_empty_field(reply):
    for reflect in (reflect_instruction, reflect_response):
        row = reflect(lambda prompt, **options: Completion(reply), ROW)
        assert row["instruction"] and row["output"]
        assert row["reflected"] or row == {**ROW, "reflected": False}


def test_a_server_failure_is_reported():
    with pytest.raises(CompletionError, match="gone"):
        reflect_response(scripted([CompletionError("gone")]), ROW)
    result = magpie_generate(scripted(["Why?", CompletionError("gone")]), "<user>", 2)
    assert result.error == "gone" and [row["instruction"] for row in result.rows] == ["Why?"]
    with pytest.raises(ValueError, match="temperature is -1"):
        magpie_generate(scripted(["Why?"]), "<user>", 1, temperature=-1)
