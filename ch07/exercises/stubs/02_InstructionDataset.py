"""Exercise 2: entries become token ids, once (the book's section 7.3)."""

from torch.utils.data import Dataset

from instruction_dataset import format_input  # the solution of exercise 1

RESPONSE_HEADER = "\n\n### Response:\n"


class InstructionDataset(Dataset):
    """`dataset[i]` is a list of token ids: of the prompt, the response header and the answer.

    `data` is a list of entries, `tokenizer` a tiktoken encoding. The text is
    format_input(entry) + RESPONSE_HEADER + entry["output"]. Everything is tokenized once, in
    `__init__`. No end-of-text is added here: collate does that. What users type is ordinary
    text, even "<|endoftext|>": `tokenizer.encode_ordinary` treats it as such.
    """

    def __init__(self, data, tokenizer):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        raise NotImplementedError
