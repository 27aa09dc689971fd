"""The entries of a split on their way to a dataset: each row is looked at, and named if it fails.

The one idea: a row that can't be learned from is refused, or left out and counted, before the
first step; what is said names the place in the reader's file, not the place in a list.
"""

from ch07.batching import check_lengths
from ch07.data import SHOWN, DataError, count
from ch07.tokenizer import load_tokenizer
from instruction_dataset import InstructionDataset


def checked_datasets(file, splits, style, options, context_length, limit, note):
    """An `InstructionDataset` for each split of a `DataFile`; DataError names rows that fail."""
    places = file.by_entry
    return {
        name: CheckedRows(entries, places, style, options).checked(context_length, limit, note)
        for name, entries in splits.items()
    }


class CheckedRows:
    """The entries of one split on their way to a dataset, with their places in the file."""

    def __init__(self, entries, places, style, options):
        self.entries, self.places, self.style, self.options = entries, places, style, options

    def checked(self, context_length, limit, note):
        """The dataset without rows that can't be used: they are refused, or dropped and named."""
        dataset = self._dataset(self.entries)
        report = check_lengths(dataset, context_length, limit)
        if dataset.seam_rows:
            note(
                f"data: prompt and answer of {count(len(dataset.seam_rows), 'row')} would merge "
                "into other tokens if tokenized at once; their ids are joined: "
                + self._named(dataset.seam_rows, dataset)
            )
        if report.cut:
            cut = f"{count(len(report.cut), 'row')} cut at {report.limit} tokens, end-of-text lost"
            note(f"data: {cut}: {self._named(report.cut, dataset)}")
        context = f"more tokens than the model's context of {context_length}"
        unusable = [
            (report.too_long, f"with {context}"),
            (report.unreadable, f"whose prompt has {context}"),
        ]
        if self.options.loss_on == "response":
            lost = f"whose whole answer is cut off at {report.limit} tokens"
            unusable.append((report.answerless, lost))
        for rows, reason in unusable:
            self._drop(rows, reason, dataset, note)
        bad = {i for rows, _ in unusable for i in rows}
        kept = [entry for i, entry in enumerate(self.entries) if i not in bad]
        return self._dataset(kept) if bad else dataset

    def _dataset(self, entries):
        with_prompt_length = self.options.loss_on == "response"
        return InstructionDataset(entries, load_tokenizer(), self.style, with_prompt_length)

    def _drop(self, rows, reason, dataset, note):
        if not rows:
            return
        what = f"{count(len(rows), 'row')} {reason}: {self._named(rows, dataset)}"
        if not self.options.skip_bad_rows:
            raise DataError(
                f"{what}. Shorten them, choose another --allowed-max-length, or leave them out "
                "with --skip-bad-rows"
            )
        note(f"data: left out: {what}")

    def _named(self, rows, dataset):
        shown = [
            f"{self.places[id(self.entries[i])]} ({dataset.lengths[i]} tokens)"
            for i in rows[:SHOWN]
        ]
        return ", ".join(shown) + (", ..." if len(rows) > SHOWN else "")
