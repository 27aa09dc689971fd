"""Our label rows are those of Hugging Face's tokenizer and collator, used as the originals do."""

import copy
import random

import pytest
import torch
import transformers
from test_collators import END, hf_tokenizer, ragged  # noqa: F401 (hf_tokenizer is a fixture)

from ch07.data.entries import load_entries
from ch07.data.prompt_styles import ALPACA_STYLE, STYLES
from ch07.data.reference_formats.alpaca_labels import label_row, label_rows, original_row
from ch07.data.reference_formats.label_collate import collate_label_rows
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.models.parameter_names import from_published
from ch07.models.resize_embeddings import smart_embedding_resize
from gpt_model import GPTConfig, GPTModel
from instruction_dataset import BOOK_STYLE

PAD = "[PAD]"  # as Alpaca adds it
PLANTED = ["(smiles)", '"Quite," he said', "- one\n- two", "{}", ":)", "://", "' quoted"]
PLAIN = ["Red", "42", "naïve café", "绿色", "🙂 ok", " led by a space", "one.\n\n", "a  b", "Ärger"]


@pytest.fixture(scope="module")
def gpt2():
    """GPT-2's fast tokenizer, with a padding token of its own."""
    from tokenizers import Tokenizer

    from ch07.models.hf_files import gpt2_tokenizer_files

    fast = Tokenizer.from_str(gpt2_tokenizer_files(512)["tokenizer.json"].decode())
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token="<|endoftext|>", pad_token=PAD, padding_side="right"
    )


@pytest.fixture(scope="module")
def rows():
    draw = random.Random(0)
    entries = draw.sample(load_entries(DATA_FILE), 60)
    odd = [
        {"instruction": "Go on.", "input": draw.choice(["", "x"]), "output": answer}
        for answer in PLANTED + PLAIN
    ]
    return entries + odd


def by_offsets(gpt2, entry, style):
    """The oracle: learned is each token that reaches beyond the prompt's last letter."""
    prompt = style.prompt(entry)
    seen = gpt2(prompt + entry["output"] + gpt2.eos_token, return_offsets_mapping=True)
    pairs = zip(seen["input_ids"], seen["offset_mapping"], strict=True)
    return seen["input_ids"], [i if end > len(prompt) else -100 for i, (_, end) in pairs]


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_the_oracle_of_character_offsets(gpt2, tokenizer, rows, style):
    """Mended rows always agree; the original's differ on exactly the rows whose tokens merge."""
    mended = label_rows(rows, tokenizer, style, joint=True).rows
    original = label_rows(rows, tokenizer, style, joint=True, original=True).rows
    differing = []
    for i, entry in enumerate(rows):
        ids, labels = by_offsets(gpt2, entry, style)
        assert mended[i].ids == original[i].ids == ids and mended[i].labels == labels
        if original[i].labels != labels:
            differing.append(i)
    merged = boundary_merge_rows(rows, tokenizer, style)
    assert differing == merged
    if style is ALPACA_STYLE:
        said = {rows[i]["output"] for i in merged}
        assert said >= {"(smiles)", "{}", ":)"} and not said & set(PLAIN)
    if style is BOOK_STYLE:
        assert merged == []


def test_the_books_template_is_safe_on_the_generated_data(tokenizer):
    entries = load_entries(DATA_FILE)[::5]
    joint, apart = (label_rows(entries, tokenizer, BOOK_STYLE, joint=way) for way in (True, False))
    assert joint == apart
    planted = {**entries[0], "output": "(so)"}
    assert label_row(planted, tokenizer, joint=True) != label_row(planted, tokenizer)


@pytest.mark.parametrize("seed", range(50))
def test_equal_to_data_collator_for_seq2seq(hf_tokenizer, seed):  # noqa: F811
    """With a padding token of its own: ids, labels and mask; Alpaca's mask is the same there."""
    distinct = copy.deepcopy(hf_tokenizer)
    distinct.add_special_tokens({"pad_token": PAD})
    assert distinct.pad_token_id not in (END, None)
    label_batch = [original_row(row[:n], row[n:]) for n, row in ragged(seed)]
    features = [{"input_ids": row.ids, "labels": row.labels} for row in label_batch]
    for words in (distinct, hf_tokenizer):
        theirs = transformers.DataCollatorForSeq2Seq(words, label_pad_token_id=-100)(features)
        ours = collate_label_rows(label_batch, words.pad_token_id)
        assert set(ours) == set(theirs)
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name
        alpacas = collate_label_rows(label_batch, words.pad_token_id, mask_by_value=True)
        wrong = alpacas.pop("attention_mask") != theirs["attention_mask"].bool()
        ends = (ours["input_ids"] == END) & ours["attention_mask"].bool()
        assert torch.equal(wrong, ends if words is hf_tokenizer else torch.zeros_like(ends))
        assert ends.sum() == len(label_batch), "one a row"
        assert all(torch.equal(alpacas[name], theirs[name]) for name in alpacas)


@pytest.mark.parametrize("tied", [True, False])
def test_equal_to_a_resized_gpt2(tied):
    """transformers resizes; the new rows are then the means, as Alpaca sets them."""
    size = {"vocab_size": 61, "n_positions": 16, "n_embd": 16, "n_head": 2, "n_layer": 2}
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**size, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0)
    ).eval()
    config = GPTConfig(61, 16, 16, 2, 2, tied_head=tied)
    weights = peer.transformer.state_dict()
    if not tied:
        weights["lm_head.weight"] = peer.lm_head.weight
    ours = GPTModel(config).eval()
    ours.load_state_dict(from_published(weights, config))
    peer.resize_token_embeddings(64, mean_resizing=False)
    with torch.no_grad():
        for layer in (peer.get_input_embeddings(), peer.get_output_embeddings()):
            layer.weight[61:] = layer.weight[:61].mean(dim=0)
    smart_embedding_resize(ours, 64)
    ids = torch.randint(0, 64, (4, 16))
    torch.testing.assert_close(ours(ids), peer(ids).logits, atol=1e-5, rtol=0)
