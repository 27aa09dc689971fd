"""Token ids and labels as the Lamini course makes them (placeholder until merged)."""

from ch07.data.prompt_styles import BARE_STYLE
from ch07.data.reference_formats.alpaca_labels import LabelRow, LabelRows


def lamini_rows(entries, tokenizer, max_length=2048):
    rows = []
    for e in entries:
        ids = tokenizer.encode_ordinary(BARE_STYLE.prompt(e) + e["output"])[-max_length:]
        rows.append(LabelRow(ids, list(ids)))
    return LabelRows(rows, [])
