r"""The two prompt templates of the course by Lamini and DeepLearning.AI.

The one idea: an entry becomes a question and an answer. Source: "Finetuning Large Language Models",
lessons "Where finetuning fits in" and "Data preparation" (course notebooks).

The course's code has two faults, reproduced here to show them. First, a row in Alpaca format has
the columns input and output, so its instruction is lost. Second, one notebook cell makes two
outputs that differ where the answer begins: the text has a newline between "### Answer:" and the
answer, but question and answer of the pair are joined without one. So the model is trained on
something other than what was looked at. Our `QUESTION_STYLE` has one template for both purposes.
Knows nothing of models or training.
"""

from typing import Any

from ch07.data.prompt_styles import QUESTION_STYLE


# --- the two outputs of one notebook cell -------------------------------------------------------
def question_text(entry: dict[str, Any]) -> str:
    r"""The course's first output: prompt and answer as one text, a newline before the answer.

    >>> question_text({"instruction": "Who?", "output": "Anna"})
    '### Question:\nWho?\n\n### Answer:\nAnna'
    """
    return QUESTION_STYLE.prompt(entry) + entry["output"]


def question_pair(entry: dict[str, Any]) -> dict[str, str]:
    r"""The course's second output: prompt and answer apart; the prompt lacks its last newline.

    >>> question_pair({"instruction": "Who?", "output": "Anna"})
    {'question': '### Question:\nWho?\n\n### Answer:', 'answer': 'Anna'}
    """
    prompt = QUESTION_STYLE.prompt(entry).removesuffix("\n")
    return {"question": prompt, "answer": entry["output"]}
