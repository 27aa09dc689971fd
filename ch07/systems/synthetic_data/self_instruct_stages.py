"""Self-Instruct's own pipeline in stages: instructions, their kind, and instances of each.

The one idea: an instruction, whether it is a classification task, and its instances come from three
answers of the model. Each is free text, so each stage has its own prompt, parser and filters:
better no instance than two that contradict each other. For a classification task, the class labels
are generated first; otherwise a model tends to give all its instances the same label.

Source: Self-Instruct (Wang et al. 2023, section 2.2). Stage 1 is bootstrap_instructions.py, stage 2
identify_clf_or_not.py, stage 3 generate_instances.py; stage 4, which parses the answers of stages 2
and 3, is prepare_for_finetuning.py. An answer is a `Completion` (`ch07.generation.completion`), an
instance a pair (input, output). The filters of stage 1 are in `self_instruct`. `original=True`
stops and spells instructions exactly as the original does; without it, a year such as 2016 doesn't
end the list, and names keep their capital letters. Instances are parsed as in the original.

The wording of the prompts is this project's own, and shorter than the original's; there is none for
seeds that are all classification tasks. What the original does for GPT-3 fine-tuning alone (it
draws a template for each instance, removes half of the inputs' field names and blank lines, and
drops equal prompts) is left to the prompt styles. Knows nothing of models or files.
"""

import random
import re
from collections.abc import Iterable, Sequence

from ch07.generation.completion import Completion

Instance = tuple[str, str]  # input and output

MAX_INSTANCES = 5  # per instruction
# A list of instructions ends before number 16. The original's strings also cut "in 2016." in two.
INSTRUCTIONS_STOP = ["\n\n", "\n16.", "\n16 ."]
ORIGINAL_INSTRUCTIONS_STOP = ["\n\n", "\n16", "16.", "16 ."]
CLASSIFICATION_STOP = ["\n", "Task"]
INSTANCES_STOP = ["Example 6", "Task:"]

CLASSIFICATION_PROMPT = """\
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
INPUT_FIRST_PROMPT = """\
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
OUTPUT_FIRST_PROMPT = """\
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


def instructions_prompt(examples: Iterable[str]) -> str:
    r"""Stage 1: a numbered list of instructions for the model to continue.

    >>> instructions_prompt(["Name the  colour:", "Add the numbers."])
    'Different tasks for a language model:\n1. Name the colour\n2. Add the numbers.\n3.'
    """
    lines = ["Different tasks for a language model:"]
    for number, instruction in enumerate(examples, start=1):
        lines.append(f"{number}. {' '.join(instruction.split()).rstrip(':')}")
    lines.append(f"{len(lines)}.")
    return "\n".join(lines)


def classification_prompt(instruction: str) -> str:
    """Stage 2: asks whether an instruction is a classification task."""
    return CLASSIFICATION_PROMPT.replace("{instruction}", instruction)


def instances_prompt(instruction: str, classification: bool) -> str:
    """Stage 3: asks for instances of an instruction, labels first if it is a classification."""
    template = OUTPUT_FIRST_PROMPT if classification else INPUT_FIRST_PROMPT
    return template.replace("{instruction}", instruction)


def instructions_stop(original: bool = False) -> list[str]:
    """Stage 1: the stop strings of a request."""
    return ORIGINAL_INSTRUCTIONS_STOP if original else INSTRUCTIONS_STOP


def parse_instructions(completion: Completion, original: bool = False) -> list[str]:
    """Stage 1: the instructions of a numbered list, in order, each with a capital letter.

    Empty for an answer that ended at the length limit. The original also lower-cases all other
    letters (`original=True`), which damages names and code. In both cases this comes before the
    filters, so that they see "Write a program" where the model wrote "write a program".

    >>> parse_instructions(Completion(" name a city in Peru.\\n10. Add  the numbers."))
    ['Name a city in Peru.', 'Add the numbers.']
    """
    if completion.finish_reason == "length":
        return []
    instructions = []
    for part in re.split(r"\n\d+\s?\. ", completion.text):
        text = " ".join(part.split())
        if text:
            capitalized = text.capitalize() if original else text[0].capitalize() + text[1:]
            instructions.append(capitalized)
    return instructions


def is_classification(completion: Completion) -> bool:
    """Stage 2: whether the answer is yes, in one of three accepted spellings."""
    return completion.text.strip() in ("Yes", "yes", "YES")


def parse_instances(completion: Completion) -> list[Instance]:
    """Stages 3 and 4, inputs first: the valid (input, output) pairs, in order.

    Instances follow "Example n", their outputs "Output:". Without either there are none.

    >>> parse_instances(Completion("Example 1\\nInput: 2 + 2\\nOutput: 4\\nExample 2\\nOutput: 5"))
    [('2 + 2', '4'), ('', '5')]
    """
    text = completion.text.strip()
    parts: list[str] = []
    if re.search(r"Example\s?\d*\.?", text):
        parts = [part for part in re.split(r"Example\s?\d*\.?", text) if part.strip()]
    elif re.search(OUTPUT_HEADER, text):
        parts = [text]
    return _filter_instances([_input_and_output(part.strip()) for part in parts], completion)


def parse_labelled_instances(completion: Completion) -> list[Instance]:
    """Stages 3 and 4 of a classification, labels first: the valid (input, label) pairs, in order.

    >>> parse_labelled_instances(Completion("Class label: good\\nI like it.\\nClass label: bad"))
    [('I like it.', 'good'), ('', 'bad')]
    """
    instances: list[Instance] = []
    for part in completion.text.split("Class label:")[1:]:
        label, _, text = part.strip().partition("\n")
        instances.append((text.strip(), label.strip()))
    return _filter_instances(instances, completion)


def draw_instances(instances: Sequence[Instance], generator: random.Random) -> list[Instance]:
    """At most five of an instruction's instances, drawn at random; those drawn stay in order."""
    n = min(MAX_INSTANCES, len(instances))
    chosen = sorted(generator.sample(range(len(instances)), n))
    return [instances[i] for i in chosen]


# Not \s*\d*\s*: many spaces without a digit could be divided between the two in many ways.
OUTPUT_HEADER = r"Output\s*(?:\d+\s*)?:"
INPUT_HEADER = r"Input\s*(?:\d+\s*)?:"


def _input_and_output(text: str) -> Instance:
    """One instance, split at its first "Output:"; a second instance in the output is dropped."""
    parts = re.split(OUTPUT_HEADER, text)
    if len(parts) == 1:
        before = ""
        after = text
    else:
        before = parts[0]
        after = parts[1]
    output = re.split(INPUT_HEADER, after.strip())[0]
    return re.sub("^" + INPUT_HEADER, "", before.strip()).strip(), output.strip()


def _filter_instances(instances: Sequence[Instance], completion: Completion) -> list[Instance]:
    """The valid instances, each once; none if one input has two different outputs.

    The task itself is then in doubt.
    """
    if completion.finish_reason == "length":
        instances = instances[:-1]  # the last one is most likely cut
    instances = [instance for instance in instances if _is_valid(instance)]
    outputs: dict[str, str] = {}
    for text, output in instances:
        if text and outputs.setdefault(text, output) != output:
            return []
    return list(dict.fromkeys(instances))


def _is_valid(instance: Instance) -> bool:
    text, output = instance
    if output in ("", text):
        return False
    return not text.endswith(":") and not output.endswith(":")
