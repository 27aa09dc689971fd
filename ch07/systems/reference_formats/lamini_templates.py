r"""Data preparation as the course of Lamini and DeepLearning.AI does it, and its two templates.

The one idea: whatever a data set calls its columns, a row is a question and an answer; which
columns these are is looked up in an order. Source: "Finetuning Large Language Models", lessons
"Where finetuning fits in" and "Data preparation" (course notebooks).

Two things in the course's code go wrong, and stand here to be seen. A row in Alpaca form has the
columns input and output, so its instruction is lost. And one cell makes two outputs that differ at
the seam: the text has a newline between "### Answer:" and the answer, but in the pair question and
answer are joined without any. So what is trained on is not what was looked at. Our `QUESTION_STYLE`
has one template for both. Knows nothing of models or training.
"""

from ch07.data.prompt_styles import QUESTION_STYLE


# --- the two outputs of one cell ----------------------------------------------------------------
def question_text(entry):
    r"""The course's first output: prompt and answer as one text, a newline before the answer.

    >>> question_text({"instruction": "Who?", "output": "Anna"})
    '### Question:\nWho?\n\n### Answer:\nAnna'
    """
    return QUESTION_STYLE.prompt(entry) + entry["output"]


def question_pair(entry):
    r"""Its second: prompt and answer apart. The prompt has lost its last newline.

    >>> question_pair({"instruction": "Who?", "output": "Anna"})
    {'question': '### Question:\nWho?\n\n### Answer:', 'answer': 'Anna'}
    """
    prompt = QUESTION_STYLE.prompt(entry).removesuffix("\n")
    return {"question": prompt, "answer": entry["output"]}
