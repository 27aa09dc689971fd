"""The names of a row's fields, and all other names for them that are read: one table.

Names are compared without regard to case: OpenAssistant's files have INSTRUCTION and RESPONSE.
Where each name is used:

| name | who uses it |
| --- | --- |
| instruction, input, output | Alpaca; LLaMA-Factory adds system and history |
| instruction, context, response | Dolly |
| system_prompt, question, response | OpenOrca |
| query, response | MetaMath |
| inputs, targets | FLAN, xP3 |
| definition, inputs, targets | Super-NaturalInstructions |
| prompt, query, response | LLaMA-Factory |
| problem, solution | MATH, NuminaMath, Magicoder |
| prompt, generation | metharme, of axolotl |
| question, context, answers | SQuAD |
| kind, input, target | Firefly |
"""

FIELDS = ("instruction", "input", "output")
KNOWN_KEYS = (*FIELDS, "system", "history", "family", "split")
COUNTS = "counts"  # in a conversation: False for an answer that is read, but not counted
SPLITS = ("train", "test", "validation")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
}

# Other names of each field; of those that a row has, the first holds the field.
QUESTION_NAMES = (
    "instruction",
    "question",
    "query",
    "problem",
    "definition",
    "inputs",
    "prompt",  # last: where another name is there, too, it often holds the whole formatted text
    "user",
    "human",
    "q",
)
ANSWER_NAMES = (
    "output",
    "response",
    "completion",
    "solution",
    "answer",
    "answers",
    "target",
    "targets",
    "generation",
    "assistant",
    "bot",
    "a",
)
# So short that they may name something else; they count only where no longer name is there.
SHORT_NAMES = ("user", "human", "q", "assistant", "bot", "a")
INPUT_NAMES = ("input", "context")
SYSTEM_NAMES = (
    "system",
    "system_prompt",
    "system_message",
    "systeminstruction",
    "system_instruction",
)
# Beside the first name, the second isn't a question of its own but what the question is about.
INPUT_OF_QUESTION = {"prompt": "query", "definition": "inputs"}
# The second name may stand beside the first: it is a part or a form of what the first holds.
BESIDE = {
    "solution": ("answer", "answers"),  # the result alone
    "question": ("prompt",),
    "query": ("prompt",),
    "problem": ("prompt",),
    "instruction": ("prompt",),
}

CHAT_NAMES = ("messages", "conversations", "conversation", "dialogue", "dialog", "contents")
TEXT_NAME = "text"
PAIR_NAMES = ("chosen", "rejected")
# Other names of the two answers of a pair: Argilla, ms-swift, OpenAI.
SIDE_NAMES = {
    "chosen": ("chosen", "chosen_response", "preferred_output"),
    "rejected": ("rejected", "rejected_response", "non_preferred_output"),
}
MEDIA_NAMES = ("image", "images", "video", "videos", "audio", "audios")
LABEL_NAMES = ("label", "kto_tag")  # of KTO: whether the answer is a good one
INSTANCE_NAMES = ("instances", "instance")  # of one instruction, several inputs and outputs

# All names that are looked at: the other columns of a dataset need not be loaded.
READ_NAMES = {
    *KNOWN_KEYS,
    *QUESTION_NAMES,
    *ANSWER_NAMES,
    *INPUT_NAMES,
    *SYSTEM_NAMES,
    *CHAT_NAMES,
    *PAIR_NAMES,
    *INSTANCE_NAMES,
    TEXT_NAME,
    *LABEL_NAMES,
    *MEDIA_NAMES,
    *(name for names in SIDE_NAMES.values() for name in names),
}
