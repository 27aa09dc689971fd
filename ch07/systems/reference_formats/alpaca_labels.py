"""Training rows with labels, as Stanford Alpaca and Chinese-LLaMA-Alpaca make them, and mended.

The one idea: a row of labels stands right above its ids: the id itself where it is learned, -100
where it is not. The model shifts them by one, so `labels[1:]` is what our collate calls targets.
The systems differ in the prompt style and in two choices more:

    Stanford Alpaca        joint=True    train.py, `preprocess`: the text is tokenized at once, the
                                         prompt again by itself, and so many labels are masked
    Chinese-LLaMA-Alpaca   joint=False   build_dataset.py, `build_instruction_dataset`: tokenized
                                         apart, so that the mask is always exact

Both cut at 512 tokens on the right (`original=True, max_length=512`): a long answer loses its
end-of-text, and a long prompt leaves labels of -100 alone, whose mean loss is NaN. The mended rows
(the default) cut prompt and answer apart. What differs from the originals on purpose: end-of-text
that a user typed is ordinary text here, and an input of spaces alone is none. (LLaMA's tokenizer
also puts a token before the text; GPT-2's has none.) Knows nothing of batches or models.
"""

from itertools import accumulate, zip_longest
from typing import NamedTuple

from ch07.data.prompt_styles import ALPACA_STYLE
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.token_text import display_width, token_text
from collate import END_OF_TEXT
from instruction_dataset import InstructionDataset
from train_loop import IGNORE_INDEX


class LabelRow(NamedTuple):
    """One row: `ids` and `labels` of the same length, and what was `cut`: "prompt", "answer"."""

    ids: list
    labels: list
    cut: tuple = ()

    @property
    def counted(self):
        """How many labels the loss counts: the first is never one, nothing stands before it."""
        return sum(label != IGNORE_INDEX for label in self.labels[1:])

    @property
    def has_end(self):
        """Whether the row ends in a counted end-of-text."""
        return bool(self.labels) and self.labels[-1] == END_OF_TEXT


class LabelRows(NamedTuple):
    """Rows, and the entries that give none: [(number of the entry, why), ...]."""

    rows: list
    dropped: list


def label_row(entry, tokenizer, style=ALPACA_STYLE, **choices):
    """The `LabelRow` of one entry; the choices are those of `label_rows`, but for skipping.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> entry = {"instruction": "Name a colour.", "output": "Dark red"}
    >>> row = label_row(entry, load_tokenizer())
    >>> row.labels[-4:]  # the last token of the prompt, "Dark", " red", end-of-text
    [-100, 17367, 2266, 50256]
    """
    return label_rows([entry], tokenizer, style, skip_bad_rows=False, **choices).rows[0]


def label_rows(
    entries,
    tokenizer,
    style=ALPACA_STYLE,
    joint=False,
    original=False,
    max_length=None,
    max_prompt_length=None,
    max_answer_length=None,
    skip_bad_rows=False,
):
    """`LabelRows` of entries, prompt and answer tokenized apart or, if `joint`, at once.

    Lengths are in tokens, the answer's with its end. Without `original`, `max_length` never cuts a
    prompt, only `max_prompt_length` does, and what a token at the seam holds of the answer is
    learned. ValueError names an entry that limits leave without a token of its answer; with
    `skip_bad_rows` such entries are told in `dropped`.
    """
    if original and (max_prompt_length is not None or max_answer_length is not None):
        raise ValueError("the originals know max_length only: leave out original, or the others")
    limits = max_length, max_prompt_length, max_answer_length
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=True)
    rows, dropped = [], []
    merged = set(boundary_merge_rows(dataset.data, tokenizer, style)) if joint else set()
    for i, entry in enumerate(dataset.data):
        prompt_length, ids = dataset[i]
        prompt, answer = ids[:prompt_length], ids[prompt_length:]
        if i in merged:
            prompt, answer = _split_at_once(entry, tokenizer, style)
        if original:
            rows.append(original_row(prompt, answer, prompt_length, max_length))
            continue
        cuts = max_prompt_length is not None
        header = _header_length(prompt, entry, tokenizer, style) if cuts else 0
        try:
            rows.append(mended_row(prompt, answer, *limits, header))
        except ValueError as error:
            if not skip_bad_rows:
                raise ValueError(f"entry {i}: {error}") from None
            dropped.append((i, str(error)))
    return LabelRows(rows, dropped)


# --- from ids to rows ---------------------------------------------------------------------------
def original_row(prompt, answer, masked=None, max_length=None):
    """Ids, end-of-text, labels of which the first `masked` are -100; all cut on the right.

    `masked` is the number of the prompt's tokens, by itself, and by default.

    >>> original_row([1, 2, 3], [4, 5])
    LabelRow(ids=[1, 2, 3, 4, 5, 50256], labels=[-100, -100, -100, 4, 5, 50256], cut=())
    >>> original_row([1, 2, 3], [4, 5], max_length=2).labels  # nothing is left to learn
    [-100, -100]
    """
    _check(max_length=max_length)
    if masked is not None and masked < 0:
        raise ValueError(f"masked is {masked}, but must be 0 or more tokens")
    ids = [*prompt, *answer, END_OF_TEXT]
    masked = min(len(prompt) if masked is None else masked, len(ids))
    labels = [IGNORE_INDEX] * masked + ids[masked:]
    limit = len(ids) if max_length is None else max_length
    cut = {"prompt": limit < len(prompt), "answer": limit < len(ids)}
    return LabelRow(ids[:limit], labels[:limit], tuple(name for name in cut if cut[name]))


def mended_row(
    prompt, answer, max_length=None, max_prompt_length=None, max_answer_length=None, header=0
):
    """Ids, end-of-text, labels; prompt and answer are cut apart, and something is always learned.

    A prompt that is cut keeps its last `header` tokens: the answer follows them at inference. An
    answer that is cut has no end-of-text, which would teach to stop in the middle; `cut` says so.
    ValueError if no token of the answer would be left.

    >>> mended_row([1, 2, 3], [4, 5, 6], max_length=5)
    LabelRow(ids=[1, 2, 3, 4, 5], labels=[-100, -100, -100, 4, 5], cut=('answer',))
    >>> mended_row([1, 2, 3, 7], [4], max_prompt_length=2, header=1).ids
    [1, 7, 4, 50256]
    """
    _check(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        max_answer_length=max_answer_length,
    )
    given, cut = len(prompt), ()
    if max_prompt_length is not None and given > max_prompt_length:
        if max_prompt_length <= header:
            raise ValueError(
                f"max_prompt_length is {max_prompt_length}, but the response header alone has "
                f"{header} tokens"
            )
        prompt = [*prompt[: max_prompt_length - header], *prompt[given - header :]]
        cut = ("prompt",)
    room = len(answer) + 1 if max_answer_length is None else max_answer_length
    if max_length is not None:
        room = min(room, max_length - len(prompt))
    if room < 1:
        raise ValueError(
            f"a prompt of {given} tokens leaves none for the answer: cut the prompt with "
            "max_prompt_length, or allow more"
        )
    learned = [*answer, END_OF_TEXT]
    if room < len(learned):
        learned, cut = learned[:room], (*cut, "answer")
    return LabelRow([*prompt, *learned], [IGNORE_INDEX] * len(prompt) + learned, cut)


def _check(**limits):
    for name, limit in limits.items():
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"{name} is {limit!r}, but must be an int: 1 token or more")


def _split_at_once(entry, tokenizer, style):
    """The ids of the whole text: those that lie in the prompt, and the rest.

    A token across the seam is the answer's: only there can its part of the answer be learned.
    """
    prompt = style.prompt(entry)
    ids = tokenizer.encode_ordinary(prompt + entry["output"])
    n = sum(end <= len(prompt.encode()) for end in _ends(ids, tokenizer))
    return ids[:n], ids[n:]


def _header_length(prompt, entry, tokenizer, style):
    """How many of the prompt's last tokens are the template's text before the answer."""
    role, text = style.parts(entry)[-1]
    if role != "template":
        return 0
    start = len(style.prompt(entry).encode()) - len(text.encode())
    return sum(end > start for end in _ends(prompt, tokenizer))


def _ends(ids, tokenizer):
    """How many bytes of the text each token and those before it make up."""
    return accumulate(len(tokenizer.decode_single_token_bytes(token_id)) for token_id in ids)


# --- side by side -------------------------------------------------------------------------------
def side_by_side(entry, tokenizer, style=ALPACA_STYLE, joint=False, last=8, **limits):
    """The last tokens of the original's row and of the mended one, each with its label, as text.

    A token that is learned is marked ">". Limits besides `max_length` are the mended row's alone.
    """
    asked = {"style": style, "joint": joint}
    cut = limits.get("max_length")
    original = label_row(entry, tokenizer, **asked, original=True, max_length=cut)
    mended = label_row(entry, tokenizer, **asked, **limits)
    left = _column("original", original, tokenizer, last)
    right = _column("mended", mended, tokenizer, last)
    width = max(map(display_width, left)) + 4
    pairs = zip_longest(left, right, fillvalue="")
    return "\n".join((a + " " * (width - display_width(a)) + b).rstrip() for a, b in pairs)


def _column(name, row, tokenizer, last):
    end = "with its end" if row.has_end else "no end"
    lines = [f"{name}: {row.counted} of {len(row.ids)} tokens learned, {end}"]
    for token_id, label in list(zip(row.ids, row.labels, strict=True))[-last:]:
        mark = " " if label == IGNORE_INDEX else ">"
        lines.append(f"{mark} {token_text(token_id, tokenizer, END_OF_TEXT)}")
    return lines
