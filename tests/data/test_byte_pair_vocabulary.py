"""A model's own tokenizer: id for id as `transformers` has it, from whatever file it was read."""

import json
import pickle
import random
import unicodedata

import pytest
import transformers
from chat_model import MARKS, MISSING, small_tokenizer, small_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.data.byte_pair_vocabulary import ModelTokenizer, bytes_by_character, gpt2_vocabulary
from ch07.data.tokenizer import TokenizerError
from ch07.data.tokenizer_files import read_vocabulary, vocabulary_from_gguf, write_vocabulary
from ch07.models.gguf_file import open_gguf
from ch07.models.smollm2 import find_smollm2

WORDS = [
    *"The cat's mat, I'll say it's 'S and 'LL don't ... !? -- (a) [b] {c} <d> http://a.b/c?d=e".split(),
    *"naïve Straße Ελλάδα Привет 你好世界 こんにちは 안녕 שלום مرحبا नमस्ते ไทย".split(),
    *"1234567 3.14 1e-5 \u00bd \u2167 \u00b2 \u32bf \u0663 \u09ea".split(),  # digits of many kinds
    "\N{SLIGHTLY SMILING FACE}",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family: three faces that are joined
    "\U0001f1e9\U0001f1ea",  # a flag
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England's
]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2003", "\u3000", "", "", ""]


def random_text(stream):
    """Words, digits, emoji, marks and white space of all kinds, in any order."""
    parts = []
    for _ in range(stream.randrange(1, 12)):
        parts.append(stream.choice(SPACES))
        kind = stream.random()
        if kind < 0.6:
            parts.append(stream.choice(WORDS))
        elif kind < 0.7:
            parts.append(stream.choice([*MARKS, "<|im_start|>user\n", "<repo_name>"]))
        elif kind < 0.8:
            parts.append(str(stream.randrange(10**6)))
        else:
            parts.append(random_character(stream))
    return "".join(parts)


def random_character(stream):
    """A character of Unicode's first plane; what isn't assigned yet may be cut differently."""
    while True:
        character = chr(stream.randrange(0x20, 0x10000))
        if unicodedata.category(character) not in ("Cn", "Cs", "Co"):
            return character


def peer_of(folder, vocabulary):
    write_vocabulary(folder, vocabulary, 256)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


def their_ids(peer, texts):
    return peer(texts, split_special_tokens=True, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("words", ["smollm", "gpt-2"])
def test_ids_are_those_of_transformers(words, tmp_path):
    vocabulary = small_vocabulary(words)
    ours = ModelTokenizer(vocabulary)
    stream = random.Random(1)
    texts = [random_text(stream) for _ in range(3000)]
    texts += [text + stream.choice(MISSING) + "a." for text in texts[:300]]
    theirs = their_ids(peer_of(tmp_path, vocabulary), texts)
    assert [ours.encode_ordinary(text) for text in texts] == theirs


@pytest.mark.slow
def test_ids_of_the_real_tokenizer_are_those_of_transformers(smollm2, tmp_path):
    ours = smollm2.tokenizer
    stream = random.Random(2)
    texts = [random_text(stream) for _ in range(10_000)]
    texts += [text + "\x04\x1d!" for text in texts[:200]]
    theirs = their_ids(peer_of(tmp_path, ours.vocabulary), texts)
    assert [ours.encode_ordinary(text) for text in texts] == theirs
    assert [ours.decode(ids) for ids in theirs[:10_000]] == texts[:10_000]


def test_gpt2_s_own_files_make_gpt2_s_tokenizer(tokenizer):
    ours = ModelTokenizer(gpt2_vocabulary())
    stream = random.Random(3)
    texts = [random_text(stream) for _ in range(1000)]
    assert [ours.encode_ordinary(t) for t in texts] == [tokenizer.encode_ordinary(t) for t in texts]
    assert (ours.n_vocab, ours.eot_token) == (tokenizer.n_vocab, tokenizer.eot_token)


@settings(deadline=None)
@given(st.text())
def test_a_text_comes_back_without_the_missing_bytes(text):
    tokenizer = small_tokenizer()
    ids = tokenizer.encode_ordinary(text)
    assert tokenizer.decode(ids) == text.translate(dict.fromkeys(map(ord, MISSING)))
    assert all(token_id < tokenizer.n_vocab for token_id in ids)


def test_the_end_token_is_the_model_s():
    tokenizer = small_tokenizer()
    assert tokenizer.decode([tokenizer.eot_token]) == "<|im_end|>"
    assert tokenizer.n_vocab == len(small_vocabulary().tokens)
    assert pickle.loads(pickle.dumps(tokenizer)).eot_token == tokenizer.eot_token


def test_the_name_says_whether_two_are_the_same(tmp_path, smollm2):
    from_package = vocabulary_from_gguf(open_gguf(find_smollm2()).metadata)
    write_vocabulary(tmp_path, from_package, 8192)
    assert read_vocabulary(tmp_path).name == from_package.name == smollm2.tokenizer.name
    assert small_vocabulary().name != from_package.name


def test_all_256_bytes_have_a_character():
    table = bytes_by_character()
    assert sorted(table.values()) == list(range(256))
    assert all(character.isprintable() and not character.isspace() for character in table)


# --- files that can't be used ---------------------------------------------------------------------
def fault(folder, part, change):
    """Change tokenizer.json or tokenizer_config.json; returns what is said."""
    write_vocabulary(folder, small_vocabulary(), 256)
    path = folder / part
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(TokenizerError) as caught:
        ModelTokenizer(read_vocabulary(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rename_mark(value, new):
    """Give the first mark another text."""
    old = value["added_tokens"][0]["content"]
    value["added_tokens"][0]["content"] = new
    value["model"]["vocab"][new] = value["model"]["vocab"].pop(old)


def mark_a_letter(value):
    value["added_tokens"].append({"id": value["model"]["vocab"]["l"], "content": "l"})


TOKENIZER = "tokenizer.json"
FAULTS = [
    (TOKENIZER, lambda v: v.pop("model"), "'model' is missing"),
    (TOKENIZER, lambda v: v["model"].update(type="Unigram"), "only byte-level BPE"),
    (TOKENIZER, lambda v: v["model"].update(byte_fallback=True), "only byte-level BPE"),
    (TOKENIZER, lambda v: v.update(normalizer={"type": "Lowercase"}), "changes text"),
    (TOKENIZER, lambda v: v.update(pre_tokenizer={"type": "Whitespace"}), "not known here"),
    (TOKENIZER, lambda v: v.update(pre_tokenizer=None), "can't be used"),
    (TOKENIZER, lambda v: v.update(added_tokens=[]), "is not one of its marks"),
    (TOKENIZER, lambda v: v["model"]["merges"].reverse(), "not in the order"),
    (TOKENIZER, lambda v: v["model"]["merges"].pop(), "no merge makes its token"),
    (TOKENIZER, lambda v: v["model"]["vocab"].pop("he"), "have gaps"),
    (TOKENIZER, lambda v: v["model"]["vocab"].update({"好": len(v["model"]["vocab"])}), "bytes"),
    (TOKENIZER, lambda v: v["added_tokens"][0].update(id="0"), "can't be used"),
    (TOKENIZER, lambda v: v["model"]["merges"].insert(0, ["q", "q"]), "makes no token"),
    (TOKENIZER, lambda v: v["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    (TOKENIZER, lambda v: v["model"].update(unk_token="<unk>"), "unk_token"),
    (TOKENIZER, lambda v: v["added_tokens"][0].update(special=False), "is not special"),
    (TOKENIZER, lambda v: v["added_tokens"][0].update(lstrip=True), "lstrip"),
    (TOKENIZER, lambda v: rename_mark(v, ""), "is empty"),
    (TOKENIZER, lambda v: rename_mark(v, "\ud83d"), "no valid text"),
    (TOKENIZER, lambda v: v["added_tokens"].append({**v["added_tokens"][0]}), "are the same"),
    (TOKENIZER, lambda v: mark_a_letter(v), "is an ordinary token, too"),
    (TOKENIZER, lambda v: v.update(post_processor={"type": "RobertaProcessing"}), "post_processor"),
    ("tokenizer_config.json", lambda v: v.update(add_bos_token=True), "add_bos_token"),
    ("tokenizer_config.json", lambda v: v.pop("eos_token"), "'eos_token' is missing"),
    ("tokenizer_config.json", lambda v: v.update(eos_token="</s>"), "is not one of its marks"),
    ("tokenizer_config.json", lambda v: v.update(eos_token=7), "can't be used"),
]


@pytest.mark.parametrize(("part", "change", "words"), FAULTS)
def test_a_tokenizer_that_cannot_be_used_is_refused_in_a_sentence(part, change, words, tmp_path):
    assert words in fault(tmp_path, part, change)


def test_files_that_are_missing_or_no_json(tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is missing"):
        read_vocabulary(tmp_path)
    (tmp_path / TOKENIZER).write_text("{", encoding="utf-8")
    with pytest.raises(TokenizerError):
        read_vocabulary(tmp_path)
