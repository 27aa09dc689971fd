"""What a run reports before it starts: printed, and also kept for config.json."""

from collections.abc import Callable


class RunLog:
    """Notes on the settings and findings in the data, in the order in which they were reported.

    `report(text)` shows each line to the reader as it comes.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.notes: list[str] = []  # without the findings
        self.lines: list[str] = []  # everything

    def note(self, text: str) -> None:
        """Something about this run: a setting that was changed, a split that is empty."""
        self.notes.append(text)
        self._add(text)

    def finding(self, text: str) -> None:
        """Something about the data, which the reader may want to correct."""
        self._add(f"data: {text}")

    def _add(self, line: str) -> None:
        self.lines.append(line)
        self.report(line)
