"""Exhibits on prompts and rows that say something else than what was meant."""

from torch.utils.data import Dataset

from ch07.exercises.museum.exhibit import exhibit
from instruction_dataset import format_input

PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
RESPONSE_HEADER = "\n\n### Response:\n"


@exhibit(
    "format_input",
    "format-empty-input-section",
    'A user printed rows of Unsloth\'s Alpaca notebook: the "### Input:" header is there '
    "with nothing below it (unsloth#571).",
    "https://github.com/unslothai/unsloth/issues/571",
)
def prints_empty_input_section(entry):
    """An entry without input gets an empty input section, so the model learns to expect one."""
    text = f"{PREAMBLE}\n\n### Instruction:\n{entry['instruction']}"
    return text + f"\n\n### Input:\n{entry.get('input') or ''}"


@exhibit(
    "format_input",
    "format-indented-template",
    "Raschka's own chapter 7 chat app builds its prompt from an indented triple-quoted "
    "f-string, so lines get four stray spaces.",
    "https://github.com/rasbt/LLMs-from-scratch/blob/32dc971771e760f2fe3cf098fbcb9bd80c397763/"
    "ch07/06_user_interface/app.py",
)
def indents_template(entry):
    """The code's indentation becomes part of the prompt, four spaces that other prompts lack."""
    text = f"""{PREAMBLE}

    ### Instruction:
    {entry["instruction"]}"""
    if (entry.get("input") or "").strip():
        text += f"""

    ### Input:
    {entry["input"]}"""
    return text


@exhibit(
    "format_input",
    "format-missing-newline",
    "FastChat's Alpaca conversation put the instruction on its header's own line, where "
    "Stanford's has a line break (FastChat#3186).",
    "https://github.com/lm-sys/FastChat/pull/3186",
)
def glues_instruction_to_header(entry):
    """The line break after the header is missing: an Alpaca model never saw such a prompt."""
    text = PREAMBLE + "\n\n### Instruction:" + entry["instruction"]
    if (entry.get("input") or "").strip():
        text += "\n\n### Input:\n" + entry["input"]
    return text


@exhibit(
    "format_input",
    "format-answer-in-prompt",
    "A reader of litgpt's evaluation tutorial saw the right answer in the prompt, and asked "
    "whether that is a concern (litgpt#1778).",
    "https://github.com/Lightning-AI/litgpt/issues/1778",
)
def puts_answer_in_prompt(entry):
    """The prompt contains its own answer, so in a test the model can simply copy it."""
    text = f"{PREAMBLE}\n\n### Instruction:\n{entry['instruction']}"
    if (entry.get("input") or "").strip():
        text += f"\n\n### Input:\n{entry['input']}"
    return text + f"\n\n### Response:\n{entry['output']}"


@exhibit(
    "format_input",
    "format-braces",
    "LangChain formats few-shot examples a second time, so a maths question with set braces "
    "raised KeyError: '1; 2; 3; …' (langchain#2757).",
    "https://github.com/langchain-ai/langchain/issues/2757",
)
def formats_what_the_user_wrote(entry):
    """The instruction is treated as a template, so braces in it are replaced or raise an error."""
    template = f"{PREAMBLE}\n\n### Instruction:\n{entry['instruction']}"
    if (entry.get("input") or "").strip():
        template += "\n\n### Input:\n{input}"
    return template.format(**entry)


@exhibit(
    "InstructionDataset",
    "dataset-special-token-in-text",
    "A tokenizers user asked for a way to stop typed <|im_start|> from becoming the real "
    "control token, as tiktoken allows (tokenizers#1850).",
    "https://github.com/huggingface/tokenizers/issues/1850",
)
class ObeysTypedSpecialTokens(Dataset):
    """A typed "<|endoftext|>" becomes the real token 50256: a user can end the text early."""

    def __init__(self, data, tokenizer):
        self.encoded_texts = []
        for entry in data:
            text = format_input(entry) + RESPONSE_HEADER + entry["output"]
            ids = tokenizer.encode(text, allowed_special={"<|endoftext|>"})
            self.encoded_texts.append(ids)

    def __len__(self):
        return len(self.encoded_texts)

    def __getitem__(self, index):
        return self.encoded_texts[index]


@exhibit(
    "InstructionDataset",
    "dataset-end-twice",
    "A user who fine-tuned Mistral with TRL found that add_eos_token=True put </s> into each "
    "row twice (trl#1283).",
    "https://github.com/huggingface/trl/issues/1283",
)
class AddsEndThatCollateAddsToo(Dataset):
    """Dataset and collate both add an end, so the model learns to say end-of-text twice."""

    def __init__(self, data, tokenizer):
        self.encoded_texts = []
        for entry in data:
            text = format_input(entry) + RESPONSE_HEADER + entry["output"]
            self.encoded_texts.append([*tokenizer.encode_ordinary(text), 50256])

    def __len__(self):
        return len(self.encoded_texts)

    def __getitem__(self, index):
        return self.encoded_texts[index]


@exhibit(
    "InstructionDataset",
    "dataset-no-answer",
    "A reader noticed that the fine-tuning prompt published by Stanford Alpaca had no output, "
    "and sent a fix to add it (stanford_alpaca#20).",
    "https://github.com/tatsu-lab/stanford_alpaca/pull/20",
)
class LeavesAnswerOut(Dataset):
    """The rows contain questions only, so the model never sees an answer."""

    def __init__(self, data, tokenizer):
        self.data = list(data)
        self.encoded_texts = []
        for entry in self.data:
            text = format_input(entry) + RESPONSE_HEADER
            self.encoded_texts.append(tokenizer.encode_ordinary(text))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.encoded_texts[index]


@exhibit(
    "InstructionDataset",
    "dataset-no-response-header",
    "A MiniCPM-V user got empty answers until the assistant header was put at the end of the "
    "chat template (MiniCPM-V#220).",
    "https://github.com/OpenBMB/MiniCPM-V/issues/220",
)
class LeavesResponseHeaderOut(Dataset):
    """No header says where the answer starts, so the model may continue the instruction."""

    def __init__(self, data, tokenizer):
        self.data = list(data)
        self.encoded_texts = []
        for entry in self.data:
            text = format_input(entry) + entry["output"]
            self.encoded_texts.append(tokenizer.encode_ordinary(text))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.encoded_texts[index]
