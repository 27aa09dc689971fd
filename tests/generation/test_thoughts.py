"""What a model thought is no answer: no score, no row, and no stop string in it ends the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.evaluation.judge_scores import RUBRIC, parse_score
from ch07.generation.completion import Completion, finished_completion, scripted
from ch07.generation.thoughts import drop_thoughts

MARKS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("\n<thinking>", "</thinking>"),
    ("<reasoning>\n", "\n</reasoning>"),
    ("[THINK]", "[/THINK]"),
]


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_a_score_is_read_after_the_thoughts(opening, closing):
    thought = f"{opening}A score of 10 would be too harsh. 4 of 5?{closing}"
    assert parse_score(f"{thought} 90") == 90
    assert parse_score(f"{thought}\n\nScore: 3", RUBRIC) == 3
    assert parse_score(f"{thought}{thought} 90") == 90
    assert parse_score(thought) is None
    assert parse_score(f"{opening}A score of 10 would be") is None, "the thought has no end"
    assert Completion(f"{thought}\n90").text == "90"
    assert Completion(f"{opening}10", "length").text == ""


@pytest.mark.parametrize("closing", ["</think>", "</thinking>", "[/THINK]"])
def test_a_thought_that_the_template_opened(closing):
    assert drop_thoughts(f"Perhaps 10.\n{closing}\n\n90") == "90"


@given(st.text(alphabet="ab <>/[]\n", max_size=30))
def test_other_texts_stay(text):
    assert drop_thoughts(text) == text
    assert drop_thoughts(f"<think>{text}</think>{text}") == text.lstrip()


@pytest.mark.parametrize(
    "text",
    [
        "Write your thoughts between <think> and </think>.",
        "The tag <thinking> opens it.",
        "I think so.",
        "<b>think</b>",
        "",
    ],
)
def test_marks_within_an_answer_belong_to_it(text):
    assert drop_thoughts(text) == text


def test_a_stop_string_in_a_thought_does_not_end_the_answer():
    text = "<think>first\n\nsecond</think>Paris\n\nand more"
    assert finished_completion(text, "stop", ["\n\n"]) == Completion("Paris")
    assert scripted([text])("The capital of France?", stop=["\n\n"]).text == "Paris"
