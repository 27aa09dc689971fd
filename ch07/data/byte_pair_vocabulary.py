"""A model's own tokenizer as a `tiktoken.Encoding`.

The one idea: a byte-pair tokenizer is a table of tokens, the order in which pairs are merged, and a
pattern that cuts text into words first. tiktoken takes these three as arguments. It first merges
the pair whose result has the lowest number, so the merges must be in the order of the numbers.
Reading the three from files is left to `ch07.data.tokenizer_files`.

Some tokens are marks: they never come from text, but only from a prompt's template, such as
"<|im_start|>". A mark that a user types is ordinary text.

Sources: Hugging Face's `tokenizers` (models/bpe, pre_tokenizers/byte_level and digits), llama.cpp's
`llama-vocab.cpp` (LLAMA_VOCAB_PRE_TYPE_SMOLLM), openai/gpt-2 `encoder.py` (bytes as characters).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import regex
import tiktoken

from ch07.data.tokenizer import TokenizerError, merges_of, vocabulary_files
from ch07.utils.validation import quote
from collate import END_OF_TEXT

# How text is cut into words before pairs are merged; no pair reaches across.
_GPT2_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s++"
# As GPT-2's, after each digit has been cut out: white space before a digit ends its piece.
_SMOLLM_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|\s+(?![^\s\p{N}])|\s++"
PATTERNS = {"gpt-2": _GPT2_WORDS, "smollm": _SMOLLM_WORDS}  # by llama.cpp's names

END_OF_TEXT_MARK = "<|endoftext|>"
END_OF_TURN_MARK = "<|end_of_turn|>"  # a new one, which means nothing else to a model yet


@dataclass(frozen=True)
class Vocabulary:
    """What a file says about a tokenizer."""

    tokens: Sequence[str]  # by number, each byte written as one printable character
    merges: Sequence[str]  # "a b", the first to be merged first
    marks: Mapping[str, int]  # tokens that text never becomes
    words: str  # a key of `PATTERNS`
    end: str  # the mark that ends a text, or an assistant's turn
    template: str | None = None  # the chat template, in Jinja

    @cached_property
    def name(self) -> str:
        """A name that no other vocabulary has: equal for equal content, wherever it was read."""
        content = [list(self.tokens), list(self.merges), dict(sorted(self.marks.items())), self.end]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return f"{self.words}-{digest[:12]}"


class ModelTokenizer(tiktoken.Encoding):
    """A `tiktoken.Encoding` made from a `Vocabulary`; `eot_token` is the model's own end token.

    A vocabulary may lack a few bytes that occur in no ordinary text, such as control characters.
    They are left out, as Hugging Face's tokenizers do. TokenizerError for a vocabulary whose merges
    are not in the order of its tokens, as tiktoken needs them.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        ranks = _byte_ranks(vocabulary)
        n_tokens = len(vocabulary.tokens)
        # tiktoken needs a number for each byte: those that are missing get numbers of no token.
        missing = [bytes([byte]) for byte in range(256) if bytes([byte]) not in ranks]
        for i, byte in enumerate(missing):
            ranks[byte] = n_tokens + i
        super().__init__(
            vocabulary.name,
            pat_str=PATTERNS[vocabulary.words],
            mergeable_ranks=ranks,
            special_tokens=dict(vocabulary.marks),
        )
        self.max_token_value = n_tokens - 1  # from which tiktoken computes `n_vocab`
        self.missing_bytes = b"".join(missing)

    @property
    def eot_token(self) -> int:
        """The token that ends a text: for a chat model, the one that ends a turn."""
        return self.vocabulary.marks[self.vocabulary.end]

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text; marks in it are read as ordinary characters."""
        ids = super().encode_ordinary(text)
        if self.missing_bytes and ids and max(ids) > self.max_token_value:
            return self._encode_without_missing(text)
        return ids

    def _encode_without_missing(self, text: str) -> list[int]:
        """The ids of a text with missing bytes, which leave each word before its pairs are merged.

        Leaving their numbers out afterwards would be wrong: their neighbours merge.
        """
        ids: list[int] = []
        for word in regex.findall(PATTERNS[self.vocabulary.words], text):
            known = word.encode("utf-8", "replace").translate(None, self.missing_bytes)
            if known:
                ids += self._encode_single_piece(known)
        return ids

    def __getstate__(self) -> object:
        return self.vocabulary

    def __setstate__(self, value: object) -> None:
        self.__init__(value)  # type: ignore[misc]  # as tiktoken does


def vocabulary_of(tokenizer: tiktoken.Encoding) -> Vocabulary | None:
    """What a tokenizer was made from; None for GPT-2's, which tiktoken made itself."""
    return tokenizer.vocabulary if isinstance(tokenizer, ModelTokenizer) else None


def add_marks(
    tokenizer: tiktoken.Encoding, marks: Sequence[str], end: str | None = None
) -> tiktoken.Encoding:
    """The tokenizer with further marks, numbered from its last token on; text is cut as before.

    `end` is the mark that ends a text from now on. A tokenizer that has all of this already is
    returned as it is. TokenizerError for a mark that is an ordinary token.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> tokenizer = add_marks(load_tokenizer(), ["<|eot|>"], end="<|eot|>")
    >>> tokenizer.n_vocab, tokenizer.eot_token, tokenizer.encode_ordinary("Hi<|endoftext|>")
    (50258, 50257, [17250, 27, 91, 437, 1659, 5239, 91, 29])
    """
    vocabulary = vocabulary_of(tokenizer) or gpt2_vocabulary()
    new = [mark for mark in marks if mark not in vocabulary.marks]
    if end is None:
        end = vocabulary.end
    if not new and end == vocabulary.end:
        return tokenizer
    first = len(vocabulary.tokens)
    numbers = {mark: first + i for i, mark in enumerate(new)}
    return ModelTokenizer(
        replace(
            vocabulary,
            tokens=[*vocabulary.tokens, *new],
            marks={**vocabulary.marks, **numbers},
            end=end,
        )
    )


def _byte_ranks(vocabulary: Vocabulary) -> dict[bytes, int]:
    """{bytes of a token: number}, without marks; TokenizerError if merges and numbers disagree."""
    byte_of = bytes_by_character()
    numbers = {token: i for i, token in enumerate(vocabulary.tokens)}
    if len(numbers) != len(vocabulary.tokens):
        raise TokenizerError("its vocabulary holds a token twice")
    last = -1
    made = set()
    for merge in vocabulary.merges:
        token = merge.replace(" ", "", 1)
        number = numbers.get(token)
        if number is None:
            raise TokenizerError(f"its merge {quote(merge)} makes no token of its vocabulary")
        if number < last:
            raise TokenizerError(
                f"its merge {quote(merge)} is not in the order of its tokens: tiktoken can't merge "
                "in this order"
            )
        last = number
        made.add(token)
    ranks = {}
    for token, number in numbers.items():
        if token in vocabulary.marks:
            if len(token) == 1 or token in made:
                raise TokenizerError(f"its mark {quote(token)} is an ordinary token, too")
            continue
        if len(token) > 1 and token not in made:
            raise TokenizerError(f"no merge makes its token {quote(token)}")
        try:
            ranks[bytes(byte_of[character] for character in token)] = number
        except KeyError:
            raise TokenizerError(
                f"its token {quote(token)} is not made of bytes: only byte-level tokenizers can be "
                "used, such as GPT-2's and SmolLM2's"
            ) from None
    return ranks


@lru_cache
def bytes_by_character() -> dict[str, int]:
    """{character: byte} of the 256 characters that stand for bytes in a vocabulary file.

    A byte that is a printable character of Latin-1 stands for itself; the others, such as the
    space, get characters from number 256 on.

    >>> bytes_by_character()["A"], bytes_by_character()["Ġ"]
    (65, 32)
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table |= {chr(256 + i): byte for i, byte in enumerate(others)}
    return table


def gpt2_vocabulary() -> Vocabulary:
    """GPT-2's own vocabulary, which `load_tokenizer` makes a tokenizer of."""
    files = vocabulary_files()
    numbers: dict[str, int] = json.loads(files["vocab.json"])
    tokens = sorted(numbers, key=numbers.__getitem__)
    end = tokens[END_OF_TEXT]
    return Vocabulary(tokens, merges_of(files), {end: END_OF_TEXT}, words="gpt-2", end=end)
