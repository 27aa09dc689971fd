"""The prompt styles: the same entry, written as five systems write it.

Each is a `PromptStyle`; the dataset, inference and scoring accept any of them. User text is never
searched for markers, and markers such as <|user|> are plain text to GPT-2.
"""

from tiktoken import Encoding

from ch07.data.entry_checks import Entry
from ch07.utils.errors import InputError
from instruction_dataset import BOOK_STYLE, PromptStyle, encode_prompt

_ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)

# Stanford Alpaca, `PROMPT_DICT` in train.py: two sentences, and no newline after the header.
ALPACA_STYLE = PromptStyle(
    name="alpaca",
    with_input=(
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
    ),
    no_input=_ALPACA_NO_INPUT,
)

# Chinese-LLaMA-Alpaca, `build_instruction_dataset`: one template; the input follows the
# instruction after a newline, and the header ends in a space.
CHINESE_ALPACA_STYLE = PromptStyle(
    name="chinese-alpaca",
    with_input=_ALPACA_NO_INPUT.replace("{instruction}", "{instruction}\n{input}") + " ",
    no_input=_ALPACA_NO_INPUT + " ",
)

# The question-and-answer form of the Lamini course ("Finetuning Large Language Models").
QUESTION_STYLE = PromptStyle(
    name="question-answer",
    with_input="### Question:\n{instruction}\n{input}\n\n### Answer:\n",
    no_input="### Question:\n{instruction}\n\n### Answer:\n",
)

# Phi-3's form in plain text, as exercise 7.1 of the book has it (with a colon).
PHI3_STYLE = PromptStyle(
    name="phi3",
    with_input="<|user|>\n{instruction}\n{input}\n<|assistant|>:\n",
    no_input="<|user|>\n{instruction}\n<|assistant|>:\n",
)

STYLES: dict[str, PromptStyle] = {
    style.name: style
    for style in (BOOK_STYLE, ALPACA_STYLE, CHINESE_ALPACA_STYLE, QUESTION_STYLE, PHI3_STYLE)
}


def get_style(name: str) -> PromptStyle:
    """The style of that name; for another name, ValueError lists them all."""
    if name not in STYLES:
        raise InputError(f"no prompt style {name!r}; choose one of {', '.join(STYLES)}")
    return STYLES[name]


def token_roles(entry: Entry, tokenizer: Encoding, style: PromptStyle = BOOK_STYLE) -> list[str]:
    """What each token of a training row is: "template", "instruction", "input" or "answer".

    A list as long as the row's ids in an `InstructionDataset`. A token that spans two parts of the
    prompt, such as a newline and what follows it, belongs to the part where it begins.
    """
    role_of_byte: list[str] = []
    for role, text in style.parts(entry):
        role_of_byte += [role] * len(text.encode())
    roles: list[str] = []
    position = 0
    for token_id in encode_prompt(entry, tokenizer, style):
        roles.append(role_of_byte[position])
        position += len(tokenizer.decode_single_token_bytes(token_id))
    return roles + ["answer"] * len(tokenizer.encode_ordinary(entry["output"]))
