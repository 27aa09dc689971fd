"""The checker's answer to one exercise. Needs no PyTorch, so that the command starts at once."""

from dataclasses import dataclass

SIGNS = {"passed": "✓", "mistake": "✗", "not started": "·"}


@dataclass(frozen=True)
class Report:
    """What the checker found: `status` is "passed", "mistake" or "not started"."""

    exercise: str
    status: str
    diagnosis: str = ""  # the mistake's short name, such as "pad-left"
    sentence: str = ""  # what is wrong, and what it does to the model
    table: str = ""  # what the code returned, and what was expected
    printed: str = ""  # what the learner's code printed while it was checked
    hint: str = ""  # how to get a hint

    @property
    def ok(self) -> bool:
        """Whether the answer is right."""
        return self.status == "passed"

    def __str__(self) -> str:
        lines = [f"{SIGNS[self.status]} {self.exercise}: {self.sentence or self.status}"]
        if self.table:
            lines.append("")
            lines += [f"  {line}".rstrip() for line in self.table.splitlines()]
            lines.append("")
        if self.printed:
            lines.append(f"  Your code also printed (which is fine): {self.printed!r}")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    __repr__ = __str__
