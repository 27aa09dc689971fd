"""What only the original Self-Instruct does: its answers, read stage by stage.

The one idea: an instruction, the question whether it is a classification, and its examples come
from three answers. Each is free text of a model, so each has its own reader, and rules for what is
thrown away: better no example than two that contradict each other.

Source: Self-Instruct (Wang et al. 2023, section 2.2); stage 1 is `post_process_gpt3_response` of
bootstrap_instructions.py, stages 2 and 4 are in prepare_for_finetuning.py. An answer is a
`ch07.completion.Completion`; an instance is a pair (input, output). Stage 1's filters are in
`ch07.systems.self_instruct`. Knows nothing of prompts, models or files.
"""

import re

MOST_INSTANCES = 5


def read_instructions(completion):
    """Stage 1: the instructions of a numbered list, in order.

    None of an answer that ended by "length". As in the original, all but the first letter becomes
    lower case, which spoils names and code.

    >>> from ch07.completion import Completion
    >>> read_instructions(Completion(" Name a city in Peru.\\n10. Add  the numbers."))
    ['Name a city in peru.', 'Add the numbers.']
    """
    if completion.finish_reason == "length":
        return []
    found = re.split(r"\n\d+\s?\. ", completion.text)
    return [text for text in (" ".join(part.split()).capitalize() for part in found) if text]


def is_classification(completion):
    """Stage 2: whether the answer is yes, in one of the three ways in which it may be written."""
    return completion.text.strip() in ("Yes", "yes", "YES")


def read_instances(completion):
    """Stages 3 and 4, input first: at most five pairs (input, output), in order.

    Examples stand after "Example n", their outputs after "Output:". Without either there are none.

    >>> from ch07.completion import Completion
    >>> read_instances(Completion("Example 1\\nInput: 2 + 2\\nOutput: 4\\nExample 2\\nOutput: 5"))
    [('2 + 2', '4'), ('', '5')]
    """
    text = completion.text.strip()
    if re.search(r"Example\s?\d*\.?", text):
        parts = [part for part in re.split(r"Example\s?\d*\.?", text) if part.strip()]
    else:
        parts = [text] if re.search(_OUTPUT, text) else []
    return _usable([_input_and_output(part.strip()) for part in parts], completion)


def read_labelled_instances(completion):
    """Stages 3 and 4 of a classification, output first: at most five pairs (input, label).

    >>> from ch07.completion import Completion
    >>> read_labelled_instances(Completion("Class label: good\\nI like it.\\nClass label: bad"))
    [('I like it.', 'good'), ('', 'bad')]
    """
    pairs = []
    for part in completion.text.split("Class label:")[1:]:
        label, _, text = part.strip().partition("\n")
        pairs.append((text.strip(), label.strip()))
    return _usable(pairs, completion)


_OUTPUT, _INPUT = r"Output\s*\d*\s*:", r"Input\s*\d*\s*:"


def _input_and_output(text):
    """One example cut at its first "Output:"; a second example in the output is dropped."""
    before, *after = re.split(_OUTPUT, text)
    if not after:
        before, after = "", [text]
    output = re.split(_INPUT, after[0].strip())[0]
    return re.sub("^" + _INPUT, "", before.strip()).strip(), output.strip()


def _usable(pairs, completion):
    """The pairs that may be trained on; the first five, where the original draws five at random."""
    if completion.finish_reason == "length":
        pairs = pairs[:-1]
    pairs = [(text, output) for text, output in pairs if _whole(text, output)]
    answers = {}
    for text, output in pairs:
        if text and answers.setdefault(text, output) != output:
            return []  # one input, two answers: the task itself is in doubt
    return list(dict.fromkeys(pairs))[:MOST_INSTANCES]


def _whole(text, output):
    return output not in ("", text) and not text.endswith(":") and not output.endswith(":")
