"""A finished run against entries with known answers: scores with counts and intervals.

python -m ch07 evaluate RUN [--data FILE] [--json]
"""

import json
import sys

from ch07 import run_folder as rf
from ch07.data import load_entries, read_data, summary
from ch07.machine import choose_device
from ch07.report import print_scores
from ch07.respond import respond
from ch07.scoring import score_answers


def evaluate(
    folder, data=None, device="auto", max_new_tokens=256, as_json=False, skip_bad_rows=False
):
    """Answer and score every entry of `data`, or the run's own held-out entries; returns 0.

    Changes nothing in the run folder.
    """
    run = rf.load_run(folder, choose_device(device))
    entries = _entries(run, data, skip_bad_rows)
    answers = respond(run.model, run.tokenizer, entries, run.style, max_new_tokens)
    texts, stopped = [a.text for a in answers], [a.stopped == "end" for a in answers]
    scores = score_answers(entries, texts, stopped)
    if as_json:
        print(json.dumps(scores, indent=2))
    else:
        print_scores(scores)
    return 0


def _entries(run, data, skip_bad_rows):
    if data is not None:
        file = read_data(data, skip_bad_rows)
        for line in summary(file.findings):
            print(f"data: {line}", file=sys.stderr)
        return file.entries
    path = run.folder / rf.RESPONSES
    if not path.is_file():
        raise rf.RunFolderError(f"{run.folder} has no held-out entries: name some with --data FILE")
    return load_entries(path)
