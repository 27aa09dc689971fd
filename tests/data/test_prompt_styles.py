"""The seven styles, letter by letter."""

import pytest

from ch07.config import PROMPT_STYLES
from ch07.data.prompt_styles import STYLES, get_style

WITH = {"instruction": "Give the opposite.", "input": "hot"}
WITHOUT = {"instruction": "Name a colour.", "input": ""}
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n"
)
EXPECTED = {
    "book": (
        ALPACA + "Give the opposite.\n\n### Input:\nhot\n\n### Response:\n",
        ALPACA + "Name a colour.\n\n### Response:\n",
    ),
    "alpaca": (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nGive the opposite.\n\n### Input:\nhot\n\n### Response:",
        ALPACA + "Name a colour.\n\n### Response:",
    ),
    "chinese-alpaca": (
        ALPACA + "Give the opposite.\nhot\n\n### Response: ",
        ALPACA + "Name a colour.\n\n### Response: ",
    ),
    "question-answer": (
        "### Question:\nGive the opposite.\nhot\n\n### Answer:\n",
        "### Question:\nName a colour.\n\n### Answer:\n",
    ),
    "phi3": (
        "<|user|>\nGive the opposite.\nhot\n<|assistant|>:\n",
        "<|user|>\nName a colour.\n<|assistant|>:\n",
    ),
    "chatml": (
        "<|im_start|>user\nGive the opposite.\nhot<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama-3": (
        "<|start_header_id|>user<|end_header_id|>\n\nGive the opposite.\nhot<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|start_header_id|>user<|end_header_id|>\n\nName a colour.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_text_of_each_style(name):
    style = get_style(name)
    assert (style.prompt(WITH), style.prompt(WITHOUT)) == EXPECTED[name]


def test_every_style_is_tested_and_offered():
    assert set(STYLES) == set(EXPECTED) == set(PROMPT_STYLES)


def test_an_unknown_style_lists_the_known(tokenizer):
    with pytest.raises(ValueError, match="no prompt style 'x'; choose one of book, alpaca"):
        get_style("x")


def test_phi3s_markers_are_plain_text(tokenizer):
    assert tokenizer.encode_ordinary("<|user|>") == [27, 91, 7220, 91, 29]
    assert len(tokenizer.encode_ordinary("<|assistant|>")) == 6
