"""Our batches are Hugging Face's, and their language-modelling collator is the negative control."""

import random

import pytest
import torch
import transformers

from collate import custom_collate_fn, custom_collate_response_fn

END = 50256


@pytest.fixture(scope="module")
def hf_tokenizer():
    from tokenizers import Tokenizer, models

    vocabulary = {"<|endoftext|>": END, **{f"t{i}": i for i in range(100)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="right",
    )


def ragged(seed):
    draw = random.Random(seed)
    rows = [
        [draw.randrange(100) for _ in range(draw.randint(1, 30))] for _ in range(draw.randint(1, 9))
    ]
    return [(draw.randint(0, len(row)), row) for row in rows]


@pytest.mark.parametrize("seed", range(200))
def test_equal_to_data_collator_for_seq2seq(hf_tokenizer, seed):
    """Label rows are aligned with the ids; ours are shifted already: theirs[1:] is ours."""
    collator = transformers.DataCollatorForSeq2Seq(hf_tokenizer, label_pad_token_id=-100)
    batch = ragged(seed)
    for prompts, ours in (
        ([0] * len(batch), custom_collate_fn([row for _, row in batch])),
        ([n for n, _ in batch], custom_collate_response_fn(batch)),
    ):
        features = [
            {"input_ids": [*row, END], "labels": [-100] * n + row[n:] + [END]}
            for n, (_, row) in zip(prompts, batch, strict=True)
        ]
        theirs = collator(features)
        assert torch.equal(ours[0], theirs["input_ids"][:, :-1])
        assert torch.equal(ours[1], theirs["labels"][:, 1:])


@pytest.mark.parametrize("seed", range(20))
def test_data_collator_for_language_modeling_loses_the_real_end(hf_tokenizer, seed):
    collator = transformers.DataCollatorForLanguageModeling(hf_tokenizer, mlm=False)
    rows = [row for _, row in ragged(seed)]
    theirs = collator([{"input_ids": [*row, END]} for row in rows])["labels"][:, 1:]
    ours = custom_collate_fn(rows)[1]
    assert not (theirs == END).any(), "no row is taught to stop"
    assert ((ours != theirs).sum(dim=1) == 1).all(), "one label a row: its end"
