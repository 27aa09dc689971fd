"""A model's own tokenizer as a `tiktoken.Encoding`, from its files or from a GGUF file.

The one idea: a byte-pair tokenizer is a table of tokens, the order in which pairs are merged, and a
pattern that cuts text into words first. Hugging Face stores the three in tokenizer.json, llama.cpp
in the header of its file; tiktoken takes the same three as arguments. tiktoken first merges the
pair whose result has the lowest number, so the merges must be in the order of the numbers.

Some tokens are marks: they never come from text, but only from a prompt's template, such as
"<|im_start|>". A mark that a user types is ordinary text.

Sources: Hugging Face's `tokenizers` (models/bpe, pre_tokenizers/byte_level and digits), llama.cpp's
`llama-vocab.cpp` (LLAMA_VOCAB_PRE_TYPE_SMOLLM), openai/gpt-2 `encoder.py` (bytes as characters).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import regex
import tiktoken

from ch07.data.tokenizer import TokenizerError, merges_of, vocabulary_files
from ch07.utils.atomic_files import read_json, write_bytes, write_json
from ch07.utils.validation import MAX_CONFIG_BYTES, check_size, has_lone_surrogate, quote
from collate import END_OF_TEXT

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_TOKENIZER_BYTES = 30_000_000
MARK_TYPE = 3  # GGUF's type of a token that is a mark ("control")
# Keys of tokenizer.json and tokenizer_config.json that would change ids if they had a value.
CHANGING_MODEL_KEYS = ("end_of_word_suffix", "continuing_subword_prefix", "unk_token", "dropout")
CHANGING_TOKEN_KEYS = ("lstrip", "rstrip", "single_word")
CHANGING_SETTINGS = ("add_bos_token", "add_eos_token", "add_prefix_space")

# How text is cut into words before pairs are merged; no pair reaches across.
_GPT2_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s++"
# As GPT-2's, after each digit has been cut out: white space before a digit ends its piece.
_SMOLLM_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|\s+(?![^\s\p{N}])|\s++"
PATTERNS = {"gpt-2": _GPT2_WORDS, "smollm": _SMOLLM_WORDS}  # by llama.cpp's names


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


# --- from and to files ----------------------------------------------------------------------------
def vocabulary_from_gguf(metadata: Mapping[str, Any]) -> Vocabulary:
    """The `Vocabulary` in the metadata of a GGUF file; TokenizerError if it can't be used."""
    try:
        if metadata["tokenizer.ggml.model"] != "gpt2":
            kind = quote(str(metadata["tokenizer.ggml.model"]))
            raise TokenizerError(
                f"its tokenizer is of the kind {kind}: only byte-level ones ('gpt2') can be used"
            )
        tokens = metadata["tokenizer.ggml.tokens"]
        types = metadata["tokenizer.ggml.token_type"]
        marks = {
            token: i
            for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == MARK_TYPE
        }
        end_id = metadata["tokenizer.ggml.eos_token_id"]
        if not 0 <= end_id < len(tokens):
            raise TokenizerError(f"its end token is number {end_id} of {len(tokens)}")
        end = tokens[end_id]
        words = metadata["tokenizer.ggml.pre"]
        merges = metadata["tokenizer.ggml.merges"]
        template = metadata.get("tokenizer.chat_template")
        return _checked(Vocabulary(tokens, merges, marks, words, end, template))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _unusable(error) from None


def read_vocabulary(folder: str | Path) -> Vocabulary:
    """The `Vocabulary` of a folder with tokenizer.json and tokenizer_config.json.

    TokenizerError for a missing file, a tokenizer of another kind, or one without an end token.
    """
    folder = Path(folder)
    try:
        check_size(folder / TOKENIZER_FILE, MAX_TOKENIZER_BYTES)
        stored = _read_object(folder / TOKENIZER_FILE)
        check_size(folder / TOKENIZER_CONFIG, MAX_CONFIG_BYTES)
        settings = _read_object(folder / TOKENIZER_CONFIG)
        model = stored["model"]
        _check_tokenizer(stored, settings)
        marks = {token["content"]: token["id"] for token in stored["added_tokens"]}
        if len(set(marks.values())) != len(stored["added_tokens"]):
            raise TokenizerError("two of its added tokens are the same")
        numbers = {**model["vocab"], **marks}
        tokens = sorted(numbers, key=numbers.__getitem__)
        if [numbers[token] for token in tokens] != list(range(len(tokens))):
            raise TokenizerError("the numbers of its tokens have gaps")
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        end = settings["eos_token"]
        vocabulary = Vocabulary(
            tokens,
            merges,
            marks,
            words=_words_of(stored),
            end=end if isinstance(end, str) else end["content"],
            template=_template_in(folder, settings),
        )
        return _checked(vocabulary)
    except FileNotFoundError as error:
        raise TokenizerError(f"{Path(error.filename).name} is missing") from None
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OSError) as error:
        raise _unusable(error) from None


def holds_gpt2(folder: str | Path) -> bool:
    """Whether the tokenizer.json of a folder has GPT-2's own tokens, whatever stands beside it."""
    path = Path(folder) / TOKENIZER_FILE
    try:
        check_size(path, MAX_TOKENIZER_BYTES)
        numbers = read_json(path)["model"]["vocab"]
        return sorted(numbers, key=numbers.__getitem__) == list(gpt2_vocabulary().tokens)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise TokenizerError(f"{path.name} is not an object")
    return value


def _check_tokenizer(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """TokenizerError for what would change ids, and isn't done here."""
    model = stored["model"]
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        raise TokenizerError("only byte-level BPE tokenizers can be used")
    changing = [key for key in CHANGING_MODEL_KEYS if model.get(key)]
    changing += [key for key in CHANGING_SETTINGS if settings.get(key)]
    for token in stored["added_tokens"]:
        changing += [f"{key} of an added token" for key in CHANGING_TOKEN_KEYS if token.get(key)]
        if not token.get("special", True):
            raise TokenizerError(
                f"its added token {quote(str(token['content']))} is not special: transformers "
                "would find it in users' text"
            )
    after = stored.get("post_processor")
    if after is not None and after.get("type") != "ByteLevel" and not _adds_nothing(after):
        changing.append(f"post_processor ({after.get('type')})")
    if changing:
        raise TokenizerError(f"it changes ids in a way that is not known here ({changing[0]})")


def _adds_nothing(processor: Mapping[str, Any]) -> bool:
    """Whether a post-processor is a template of the text alone, without tokens around it."""
    if processor.get("type") != "TemplateProcessing":
        return False
    return not any("SpecialToken" in piece for piece in processor["single"])


def _unusable(error: Exception) -> TokenizerError:
    if isinstance(error, TokenizerError):
        return error
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return TokenizerError(f"its tokenizer can't be used: {reason}")


def _checked(vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary; TypeError, KeyError or ValueError unless its values are what they must be."""
    lists = (vocabulary.tokens, vocabulary.merges)
    if not all(isinstance(text, str) for texts in lists for text in texts):
        raise TypeError("its tokens and merges are not all texts")
    if "" in vocabulary.marks or any(map(has_lone_surrogate, vocabulary.marks)):
        raise TokenizerError("one of its marks is empty, or no valid text")
    if not all(type(number) is int for number in vocabulary.marks.values()):
        raise TypeError("the number of a mark is not a whole number")
    if vocabulary.words not in PATTERNS:
        raise TokenizerError(
            "it cuts text into words in a way that is not known here "
            f"({quote(str(vocabulary.words))}); "
            f"known are {', '.join(PATTERNS)}"
        )
    if vocabulary.end not in vocabulary.marks:
        raise TokenizerError(f"its end token {quote(str(vocabulary.end))} is not one of its marks")
    if vocabulary.template is not None and not isinstance(vocabulary.template, str):
        raise TypeError("its chat template is not text")
    return vocabulary


def _words_of(stored: Mapping[str, Any]) -> str:
    """The key of `PATTERNS` for what a tokenizer.json does before it merges pairs."""
    if stored.get("normalizer"):
        raise TokenizerError("its tokenizer changes text before it is cut into words")
    before = stored["pre_tokenizer"]
    parts = before["pretokenizers"] if before["type"] == "Sequence" else [before]
    kinds = [part["type"] for part in parts]
    byte_level = parts[-1]
    plain = byte_level.get("use_regex", True) and not byte_level.get("add_prefix_space", True)
    if kinds == ["ByteLevel"] and plain:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and plain:
        return "smollm"
    raise TokenizerError(
        f"it cuts text into words in a way that is not known here ({', '.join(kinds)})"
    )


def _template_in(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        check_size(file, MAX_CONFIG_BYTES)
        return file.read_text(encoding="utf-8")
    return settings.get("chat_template")


def write_vocabulary(folder: Path, vocabulary: Vocabulary, context_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers reads them."""
    compact = json.dumps(tokenizer_json(vocabulary), ensure_ascii=False, separators=(",", ":"))
    write_bytes(folder / TOKENIZER_FILE, compact.encode())
    write_json(folder / TOKENIZER_CONFIG, tokenizer_settings(vocabulary, context_length))


def tokenizer_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of tokenizer.json, for the library `tokenizers`."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    before: dict[str, Any] = {**byte_level, "use_regex": True}
    if vocabulary.words == "smollm":
        digits = {"type": "Digits", "individual_digits": True}
        before = {"type": "Sequence", "pretokenizers": [digits, before]}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": mark, **flags, "special": True}
            for mark, number in sorted(vocabulary.marks.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(vocabulary.tokens)},
            "merges": [merge.split(" ") for merge in vocabulary.merges],
        },
    }


def tokenizer_settings(vocabulary: Vocabulary, context_length: int) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        # not GPT2Tokenizer, which would cut text into words in GPT-2's own way
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",  # generated tokens are appended on the right
        "eos_token": vocabulary.end,
        "pad_token": vocabulary.end,
    }
