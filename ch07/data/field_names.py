"""The names of a row's fields, and the other names for them that are accepted."""

# Other names for (instruction, output) that are accepted, and reported.
FIELD_ALIASES = [
    ("question", "answer"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
]
INPUT_ALIAS = "context"  # another name for the input
SPLITS = ("train", "test", "validation")
CHAT_KEYS = ("messages", "conversations")  # keys of rows that can't be read, but get a hint
FIELDS = ("instruction", "input", "output")
KNOWN_KEYS = ("instruction", "input", "output", "family", "split")
