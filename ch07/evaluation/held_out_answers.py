"""The answers that a run is judged by: those of its held-out entries, before and after.

The one idea: an answer hangs on its own entry alone, so each rank answers its share, and together
they have what one process would have.
"""

from ch07.data.tokenizer import load_tokenizer
from ch07.evaluation.metrics import score_answers
from ch07.generation.respond import respond
from ch07.runs import run_folder as rf
from ch07.utils.atomic_files import write_json
from ch07.utils.distributed import all_gather_list, get_world_size, items_of_rank

ENTRIES_PER_ROUND = (
    500  # of each rank, before it waits for the others: they wait for half an hour at most
)
SAMPLE_SIZE = 5  # held-out entries whose answers are printed, before and after


def answer_entries(job, entries, max_new_tokens=256):
    """An `Answer` for each entry; every rank works, and every rank has them all."""
    answers, n = (
        [],
        ENTRIES_PER_ROUND * get_world_size() if get_world_size() > 1 else max(1, len(entries)),
    )
    for i in range(0, len(entries), n):
        mine = items_of_rank(entries[i : i + n])
        answers += all_gather_list(
            respond(job.model, load_tokenizer(), mine, job.plan.style, max_new_tokens)
        )
    return answers


def answers_before_training(job):
    """Of the weights that training starts from; a resumed run makes the same ones again."""
    held_out = job.plan.rows.entries("test")
    return answer_entries(job, [held_out[i] for i in sample_indices(held_out)], max_new_tokens=32)


def sample_indices(entries):
    """Row numbers of the first few entries, each of another family where there are families."""
    first = {}
    for i, entry in enumerate(entries):
        first.setdefault(entry.get("family", i), i)
    return list(first.values())[:SAMPLE_SIZE]


def save_answers(folder, entries, answers, seconds):
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
