"""Building the dataset and collating an epoch, compared with the book's code.

    python -m benchmarks.data [--data FILE] [--rounds 5] [--json FILE]

Rows per second of the book's `InstructionDataset` and `custom_collate_fn` (`llms_from_scratch`) and
of this project's, in turns, in one process, with batches of 8 in the same order. Both must first
give the same batches. The floor is the tokenizer alone, encoding each text once, on one processor.

Bytes per token is the memory of the dataset's token ids: all its lists, numbers and arrays.
"""

import sys
import time

import torch

from benchmarks import peers
from benchmarks.harness import parser, report, row, speeds
from ch07.data.entries import load_entries
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from collate import custom_collate_fn
from instruction_dataset import BOOK_STYLE, InstructionDataset

BATCH_SIZE = 8


def ours(data, tokenizer):
    dataset = InstructionDataset(data, tokenizer)
    return dataset, custom_collate_fn


def book(data, tokenizer):
    from llms_from_scratch import ch07

    return ch07.InstructionDataset(data, tokenizer), ch07.custom_collate_fn


def epoch(dataset, collate):
    """The batches of an epoch, in order."""
    for start in range(0, len(dataset), BATCH_SIZE):
        stop = min(start + BATCH_SIZE, len(dataset))
        yield collate([dataset[i] for i in range(start, stop)])


def rows_per_second(build, data, tokenizer):
    """Rows per second of building alone, of collating alone, and of both."""
    started = time.perf_counter()
    dataset, collate = build(data, tokenizer)
    built = time.perf_counter()
    for _ in epoch(dataset, collate):
        pass
    ended = time.perf_counter()
    return [len(data) / t for t in (built - started, ended - built, ended - started)]


def bytes_held(thing, seen):
    """Bytes of an object and of all that it holds, each counted once; entries left out."""
    if id(thing) in seen or isinstance(thing, str | dict | type(load_tokenizer())):
        return 0
    seen.add(id(thing))
    inside = thing if isinstance(thing, list | tuple) else vars(thing).values() if hasattr(
        thing, "__dict__") else ()  # fmt: skip
    return sys.getsizeof(thing) + sum(bytes_held(part, seen) for part in inside)


def compare(given):
    peers.require_peers()
    data, tokenizer = load_entries(given.data), load_tokenizer()
    batches = [epoch(*build(data, tokenizer)) for build in (ours, book)]
    for one, other in zip(*batches, strict=True):
        assert all(map(torch.equal, one, other)), "the batches differ"
    texts = [BOOK_STYLE.prompt(entry) + entry["output"] for entry in data]
    limits, mine, theirs = [], [], []
    for _ in range(given.rounds):
        started = time.perf_counter()
        for text in texts:
            tokenizer.encode_ordinary(text)
        limits.append(len(texts) / (time.perf_counter() - started))
        mine.append(rows_per_second(ours, data, tokenizer))
        theirs.append(rows_per_second(book, data, tokenizer))
    rows, peer = [], "the book's code"
    for i, what in enumerate(("building", "collating", "both")):
        sides = [[turn[i] for turn in side] for side in (mine, theirs)]
        rows.append(speeds(f"{what}, rows/s", *sides, peer, limits if i == 2 else None))
    held = []
    for build in (ours, book):
        dataset, _ = build(data, tokenizer)
        held.append(bytes_held(dataset, {id(dataset.data)}))
    n_tokens = sum(map(len, book(data, tokenizer)[0].encoded_texts))
    return [*rows, row("bytes per token held", *(n / n_tokens for n in held), peer)]


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--data", default=str(DATA_FILE), help="a data file; the bundled one")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    report(compare(given), given.json)


if __name__ == "__main__":
    main()
