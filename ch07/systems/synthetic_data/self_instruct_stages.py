"""Self-Instruct's own pipeline: instructions first, then what kind they are, then examples of each.

The one idea: an instruction, the question whether it is a classification, and its examples come
from three answers. Each is free text of a model, so each has its own prompt, its own reader, and
rules for what is thrown away: better no example than two that contradict each other. A
classification is asked for its labels first; else a model gives one label to all its examples.

Source: Self-Instruct (Wang et al. 2023, section 2.2); stage 1 is `post_process_gpt3_response` of
bootstrap_instructions.py, stages 2 and 4 are in prepare_for_finetuning.py. An answer is a
`Completion` (`ch07.generation.completion`); an instance is a pair (input, output). Stage 1's
filters are in `self_instruct`. The prompts' wording is this project's own, and shorter than the
original's. What the original writes for GPT-3's fine-tuning is done by the prompt styles here.
Knows nothing of models or files.
"""

import re

MOST_INSTANCES = 5
LAST = 16  # a list of instructions ends before this number
STOPS = (["\n\n", f"\n{LAST}."], ["\n", "Task"], ["Example 6", "Task:"])  # of stages 1 to 3

KINDS = """\
Is the task a classification, whose answer is one of a few labels?

Task: Is the review favourable, unfavourable or mixed?
Classification: Yes

Task: Compose a two-line rhyme on a cat that is afraid of mice.
Classification: No

Task: Choose the best section of a newspaper for the headline.
Classification: Yes

Task: Translate the sentence into German.
Classification: No

Task: Does the sentence state a fact or an opinion?
Classification: Yes

Task: Convert the distance into kilometres.
Classification: No

Task: {instruction}
Classification:"""
INPUT_FIRST = """\
Write examples for each task: an input, where it needs one, and the output.

Task: Give the opposite of each word.
Example 1
generous, shallow
Output: stingy, deep
Example 2
ancient
Output: modern

Task: Convert the distance into kilometres.
Example 1
12 miles
Output: 19.3 kilometres
Example 2
5 miles
Output: 8 kilometres

Task: Propose a name for a repair shop that mends old radios.
Example 1
Output: The Warm Valve

Task: {instruction}
"""
LABEL_FIRST = """\
Write examples for each task: first a label, then a text that has it.

Task: Is the review favourable, unfavourable or mixed?
Class label: favourable
The soup was lovely.
Class label: unfavourable
We waited an hour, and the soup was cold.
Class label: mixed
The soup was lovely, but we waited an hour for it.

Task: Does the sentence state a fact or an opinion?
Class label: fact
Oslo is in Norway.
Class label: opinion
Oslo is nicer than Bergen.

Task: {instruction}
"""


def instructions_prompt(shown):
    r"""Stage 1: a list of tasks that a model goes on with.

    >>> instructions_prompt(["Name the  colour:", "Add the numbers."])
    'Different tasks for a language model:\n1. Name the colour\n2. Add the numbers.\n3.'
    """
    lines = [f"{k}. {' '.join(task.split()).rstrip(':')}" for k, task in enumerate(shown, start=1)]
    header = "Different tasks for a language model:"
    return "\n".join([header, *lines, f"{len(lines) + 1}."])


def kind_prompt(instruction):
    """Stage 2: whether an instruction is a classification."""
    return KINDS.replace("{instruction}", instruction)


def instances_prompt(instruction, classification):
    """Stage 3: examples of an instruction, with the label first where it is a classification."""
    return (LABEL_FIRST if classification else INPUT_FIRST).replace("{instruction}", instruction)


def read_instructions(completion, original=False):
    """Stage 1: the instructions of a numbered list, in order, each with a capital letter.

    None of an answer that ended by "length". In the original all other letters become small, which
    spoils names and code.

    >>> from ch07.generation.completion import Completion
    >>> read_instructions(Completion(" name a city in Peru.\\n10. Add  the numbers."))
    ['Name a city in Peru.', 'Add the numbers.']
    """
    if completion.finish_reason == "length":
        return []
    found = re.split(r"\n\d+\s?\. ", completion.text)
    texts = (" ".join(part.split()) for part in found)
    return [t.capitalize() if original else t[0].upper() + t[1:] for t in texts if t]


def is_classification(completion):
    """Stage 2: whether the answer is yes, in one of the three ways in which it may be written."""
    return completion.text.strip() in ("Yes", "yes", "YES")


def read_instances(completion):
    """Stages 3 and 4, input first: at most five pairs (input, output), in order.

    Examples stand after "Example n", their outputs after "Output:". Without either there are none.

    >>> from ch07.generation.completion import Completion
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

    >>> from ch07.generation.completion import Completion
    >>> read_labelled_instances(Completion("Class label: good\\nI like it.\\nClass label: bad"))
    [('I like it.', 'good'), ('', 'bad')]
    """
    pairs = []
    for part in completion.text.split("Class label:")[1:]:
        label, _, text = part.strip().partition("\n")
        pairs.append((text.strip(), label.strip()))
    return _usable(pairs, completion)


_OUTPUT = r"Output\s*\d*\s*:"
_INPUT = r"Input\s*\d*\s*:"


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
