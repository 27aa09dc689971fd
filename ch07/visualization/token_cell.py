"""One cell of a token grid: what stands at one position of a batch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One position of a batch."""

    token_id: int
    text: str
    role: str  # of the input token: a key of `token_grid_text.ROLES`
    target: int | None  # None: draft 1 has no targets
    target_text: str
    target_role: str
    counted: bool
    loss: float | None = None  # nats, where it was computed and the target is counted
