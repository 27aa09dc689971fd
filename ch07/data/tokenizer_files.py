"""The files that hold a model's tokenizer: those of Hugging Face, and the header of a GGUF file.

The one idea: whatever would give other ids than here is refused by name, so a tokenizer that was
read is the one that the model was trained with.

Sources: Hugging Face's `tokenizers` (the format of tokenizer.json), ggml's docs/gguf.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ch07.data.byte_pair_vocabulary import PATTERNS, Vocabulary, gpt2_vocabulary
from ch07.data.tokenizer import TokenizerError
from ch07.utils.atomic_files import read_json, write_bytes, write_json
from ch07.utils.plain_files import read_plain
from ch07.utils.validation import MAX_CONFIG_BYTES, has_lone_surrogate, quote

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_TOKENIZER_BYTES = 30_000_000
MARK_TYPE = 3  # GGUF's type of a token that is a mark ("control")
# Keys of tokenizer.json and tokenizer_config.json that would change ids if they had a value.
CHANGING_MODEL_KEYS = ("end_of_word_suffix", "continuing_subword_prefix", "unk_token", "dropout")
CHANGING_TOKEN_KEYS = ("lstrip", "rstrip", "single_word")
CHANGING_SETTINGS = ("add_bos_token", "add_eos_token", "add_prefix_space")


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
        stored = _read_object(folder / TOKENIZER_FILE, MAX_TOKENIZER_BYTES)
        settings = _read_object(folder / TOKENIZER_CONFIG, MAX_CONFIG_BYTES)
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
        numbers = read_json(path, MAX_TOKENIZER_BYTES)["model"]["vocab"]
        return sorted(numbers, key=numbers.__getitem__) == list(gpt2_vocabulary().tokens)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    value = read_json(path, max_bytes)
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
        text = read_plain(file, MAX_CONFIG_BYTES).decode("utf-8")
        return text.replace("\r\n", "\n")
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
