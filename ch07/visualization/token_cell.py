"""One cell of a token grid: a position of a batch, and the colour and letter of its role."""

from dataclasses import dataclass

ROLES = {  # role -> its letter, and a light tint of Okabe and Ito's palette (2008)
    "template": ("t", "#f7eaf1"),
    "system": ("s", "#d9d2f0"),
    "instruction": ("i", "#8dccf0"),
    "input": ("n", "#faf7c4"),
    "answer": ("a", "#37b391"),
    "end": ("e", "#e9aa1e"),
    "padding": ("-", "#c2c2c2"),
}
NOT_COUNTED = "·"  # stands for a target that is not counted


@dataclass(frozen=True)
class Cell:
    """One position of a batch."""

    token_id: int
    text: str
    role: str  # of the input token: a key of `ROLES`
    target: int | None  # None: draft 1 has no targets
    target_text: str
    target_role: str
    counted: bool
    loss: float | None = None  # nats, where it was computed and the target is counted
