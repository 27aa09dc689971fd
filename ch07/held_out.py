"""The answers that a run is judged by: those of its held-out entries, before and after.

The one idea: an answer hangs on its own entry alone, so each rank answers its share, and together
they have what one process would have.
"""

from ch07 import run_folder as rf
from ch07.files import write_json
from ch07.ranks import joined, share, size
from ch07.respond import respond
from ch07.scoring import score_answers
from ch07.tokenizer import load_tokenizer

AT_ONCE = 500  # of each rank, before it waits for the others: they wait for half an hour at most
SHOWN = 5  # held-out entries whose answers are printed, before and after


def answer(job, entries, max_new_tokens=256):
    """An `Answer` for each entry; every rank works, and every rank has them all."""
    answers, n = [], AT_ONCE * size() if size() > 1 else max(1, len(entries))
    for i in range(0, len(entries), n):
        mine = share(entries[i : i + n])
        answers += joined(respond(job.model, load_tokenizer(), mine, job.style, max_new_tokens))
    return answers


def first_answers(job):
    """Of the weights that training starts from; a resumed run makes the same ones again."""
    held_out = job.splits["test"]
    return answer(job, [held_out[i] for i in shown(held_out)], max_new_tokens=32)


def shown(entries):
    """Row numbers of the first few entries, each of another family where there are families."""
    first = {}
    for i, entry in enumerate(entries):
        first.setdefault(entry.get("family", i), i)
    return list(first.values())[:SHOWN]


def keep_answers(folder, entries, answers, seconds):
    """Write responses.json and scores.json; returns the scores. `seconds` is training time."""
    texts, stopped = [a.text for a in answers], [a.stopped == "end" for a in answers]
    responses = [
        {key: entry[key] for key in ("instruction", "input", "output", "family") if key in entry}
        | {"model_response": answer.text, "stopped": answer.stopped}
        for entry, answer in zip(entries, answers, strict=True)
    ]
    write_json(folder / rf.RESPONSES, responses)
    scores = score_answers(entries, texts, stopped)
    scores["train_seconds"] = round(seconds, 1)
    write_json(folder / rf.SCORES, scores)
    return scores
