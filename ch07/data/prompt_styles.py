"""The prompt styles: the same entry, written as seven systems write it.

Each is a `PromptStyle`; the dataset, inference and scoring accept any of them. User text is never
searched for markers, and markers such as <|user|> are plain text to GPT-2. A chat model's own
marks, such as SmolLM2's <|im_start|>, are tokens where a template has them.
"""

from ch07.utils.errors import InputError
from instruction_dataset import BOOK_STYLE, PromptStyle

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

# ChatML, as OpenAI described it and Qwen, SmolLM2 and many others use it.
CHATML_STYLE = PromptStyle(
    name="chatml",
    with_input="<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n",
    no_input="<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
)

# Llama 3, without the token that begins a text, which GPT-2 doesn't have.
_LLAMA_3_USER = "<|start_header_id|>user<|end_header_id|>\n\n"
_LLAMA_3_ASSISTANT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA_3_STYLE = PromptStyle(
    name="llama-3",
    with_input=_LLAMA_3_USER + "{instruction}\n{input}" + _LLAMA_3_ASSISTANT,
    no_input=_LLAMA_3_USER + "{instruction}" + _LLAMA_3_ASSISTANT,
)

# A question and nothing else, as the Lamini course trains on it.
BARE_STYLE = PromptStyle("bare", "{instruction}\n{input}", "{instruction}")

# ChatGLM-6B: the question, and two marks that `finetune --rows chatglm` adds to a vocabulary.
GMASK = "[gMASK]"  # where text is missing
SOP = "<sop>"  # start of piece: the text that was missing begins
CHATGLM_STYLE = PromptStyle(
    name="chatglm",
    with_input=BARE_STYLE.with_input + GMASK + SOP,
    no_input=BARE_STYLE.no_input + GMASK + SOP,
)

STYLES: dict[str, PromptStyle] = {
    style.name: style
    for style in (
        BOOK_STYLE,
        ALPACA_STYLE,
        CHINESE_ALPACA_STYLE,
        QUESTION_STYLE,
        PHI3_STYLE,
        CHATML_STYLE,
        LLAMA_3_STYLE,
    )
}


def chatml_style(system: str) -> PromptStyle:
    """ChatML with a model's own system line, for questions without a system message."""
    literal = system.replace("{", "{{").replace("}", "}}")
    before = f"<|im_start|>system\n{literal}<|im_end|>\n"
    return PromptStyle(
        name=CHATML_STYLE.name,
        with_input=before + CHATML_STYLE.with_input,
        no_input=before + CHATML_STYLE.no_input,
    )


def get_style(name: str) -> PromptStyle:
    """The style of that name; for another name, ValueError lists them all."""
    if name not in STYLES:
        raise InputError(f"no prompt style {name!r}; choose one of {', '.join(STYLES)}")
    return STYLES[name]
