"""What the commands around the chapter's systems can be told: data, generators, judges, liking.

Imports nothing heavy, so that `--help` answers at once.
"""

import argparse

from ch07.commands.arguments import CHOICES, HELP, number

FIELDS = ("instruction", "input", "output")


def add_prefer(sub):
    """Of `prefer`: what isn't given isn't there, so that a run that goes on keeps its own."""
    above_0, whole = number(float, 1e-12, 1e6), number(int, 1, 10**9)

    def add(*names, **how):
        sub.add_argument(*names, default=argparse.SUPPRESS, **how)

    add("model", metavar="RUN", nargs="?", help="the run to start from; it stays as it is")
    pairs = "JSON or JSONL rows of instruction, input, chosen, rejected (default: toy pairs)"
    add("data", nargs="?", help=pairs)
    add("--out", help=HELP["out"])
    sub.add_argument("--resume", action="store_true", help="go on with the run in --out")
    add("--beta", type=above_0, help="larger: stays closer to RUN (default: 0.1)")
    add("--label-smoothing", type=number(float, 0, 0.499), help="default: 0")
    add("--reduction", choices=("sum", "mean"), help="over an answer's tokens (default: sum)")
    add("--epochs", type=whole, help="default: 1")
    add("--batch-size", type=whole, help="pairs in a batch (default: 8)")
    add("--lr", type=above_0, help="at its peak (default: 5e-6; small models 5e-5)")
    add("--seed", type=number(int, 0, 2**31 - 1), help="of order and split (default: 123)")
    add("--eval-freq", type=whole, help=f"{HELP['eval_freq']} (default: 10)")
    add("--max-steps", type=whole, help=HELP["max_steps"])
    add("--checkpoint-minutes", type=number(float, 0, 1e6), help="default: 5")
    add("--device", help=f"{HELP['device']} (default: auto)")
    add("--skip-bad-rows", action="store_true", help="leave faulty rows out")


def add_prepare(sub):
    """Of `prepare-data`."""
    sub.add_argument("path", metavar="FILE", help="JSONL, perhaps gzip, or Parquet, of any size")
    sub.add_argument("out", metavar="OUT", help="the new file")
    sub.add_argument("--limit", type=number(int, 1, 10**12), help="the first so many rows")
    sub.add_argument("--skip-bad-rows", action="store_true", help=HELP["skip_bad_rows"])


def add_self_instruct(sub):
    """Of `self-instruct`."""
    sub.add_argument("--seeds", help="JSON or JSONL file of tasks (default: 36 of our own)")
    many = "tasks that a prompt shows (default: 3; in stages 8)"
    sub.add_argument("--examples", dest="n_examples", type=number(int, 1, 10), help=many)
    sub.add_argument("--original", action="store_true", help="Alpaca's own parser and filters")
    staged = "as the paper does it: a list of tasks, the kind of each, its examples"
    sub.add_argument("--stages", action="store_true", help=staged)
    _add_growing(sub)
    _add_writing(sub)


def add_magpie(sub):
    """Of `magpie`."""
    said = "what stands around a user's words (default: as RUN was trained; at a URL llama-3)"
    sub.add_argument("--template", choices=CHOICES["template"], help=said)
    _add_growing(sub)
    _add_writing(sub, temperature=1.0, max_new_tokens=2048)


def add_reflect(sub):
    """Of `reflect`."""
    sub.add_argument("path", metavar="DATA", help="JSON or JSONL file")
    sub.add_argument("out", metavar="OUT", help="JSONL file for the rows; it is gone on with")
    sub.add_argument("--what", choices=CHOICES["what"], default="response", help="to write anew")
    sub.add_argument("--skip-bad-rows", action="store_true", help=HELP["skip_bad_rows"])
    _add_writing(sub, temperature=0.0, max_new_tokens=2048)


def _add_growing(sub):
    """What is asked of a file that grows."""
    sub.add_argument("--out", required=True, help="JSONL file for the new rows; it is gone on with")
    count = number(int, 1, 10**6)
    sub.add_argument("--number", type=count, default=30, help="rows that are wanted")
    sub.add_argument("--patience", type=count, default=10, help="requests without a new row")


def _add_writing(sub, temperature=None, max_new_tokens=None):
    """Who writes, and how; None is what the way of asking has as its own."""
    sub.add_argument("--backend", required=True, help="scripted:FILE, a run folder, or a URL")
    sub.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=123)
    sub.add_argument("--temperature", type=number(float, 0.0, 1e6), default=temperature)
    top_p = None if temperature is None else 1.0
    sub.add_argument("--top-p", type=number(float, 1e-9, 1.0), default=top_p)
    sub.add_argument("--max-new-tokens", type=number(int, 1, 10**6), default=max_new_tokens)
    sub.add_argument("--model", help="at a URL: which of the server's models")
    sub.add_argument("--kind", choices=("openai", "ollama"), help="at a URL: how it is spoken to")
    sub.add_argument("--timeout", type=number(float, 1, 3600), default=120, help="seconds")
    sub.add_argument("--allow-http", action="store_true", help="also to other machines")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")


def add_api_calls(sub):
    """Of `api-calls`."""
    sub.add_argument("run", metavar="RUN", nargs="?", help="a run folder, or a responses.json")
    sub.add_argument("--data", help="answer this file's test entries (default: the kept answers)")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    sub.add_argument("--device", default="auto")
    sub.add_argument("--write", metavar="FILE", help="write the data that asks for calls instead")
    sub.add_argument(
        "--documents",
        choices=CHOICES["documents"],
        help="beside each instruction in FILE: nothing, the right document, or what BM25 finds",
    )
    sub.add_argument("--renamed", action="store_true", help="new keywords in FILE's test entries")


def add_curate(sub):
    """Of `curate`."""
    sub.add_argument("path", metavar="FILE", help="JSON or JSONL file")
    sub.add_argument("target", metavar="NEW", help="the new file, .json or .jsonl")
    sub.add_argument("--keep", type=number(int, 1, 10**9), required=True, help="rows to choose")
    sub.add_argument("--how", choices=CHOICES["how"], default="diverse", help="which to prefer")
    sub.add_argument("--per-group", type=number(int, 1, 10**9), help="diverse: most of a family")
    sub.add_argument("--lima", action="store_true", help="LIMA's rules for answers, too")
    sub.add_argument("--distinct", choices=FIELDS, help="leave out what nearly repeats this field")
    sub.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=123, help="of the choice")
    sub.add_argument("--skip-bad-rows", action="store_true", help=HELP["skip_bad_rows"])
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
