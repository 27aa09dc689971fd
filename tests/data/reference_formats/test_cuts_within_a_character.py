"""A limit may cut a character of several tokens: rows keep its first ids, and nothing breaks."""

import pytest

from ch07.data.prompt_styles import ALPACA_STYLE, CHINESE_ALPACA_STYLE
from ch07.data.reference_formats.alpaca_labels import label_rows, side_by_side
from ch07.data.reference_formats.chatglm_evaluation import chatglm_evaluation_rows
from ch07.data.reference_formats.chatglm_labels import chatglm_rows
from ch07.data.reference_formats.lamini_rows import lamini_rows

FLAG = "👩‍👩‍👧🇫🇷𠮷"
ENTRY = {"instruction": "Draw " + FLAG, "input": FLAG, "output": FLAG + "\u0301é"}


def text_bytes(ids, tokenizer):
    """The bytes of ids; ids above GPT-2's are ChatGLM's marks, which have no text."""
    return tokenizer.decode_bytes([token_id for token_id in ids if token_id < 50256])


@pytest.mark.parametrize("style", [ALPACA_STYLE, CHINESE_ALPACA_STYLE], ids=lambda s: s.name)
@pytest.mark.parametrize("joint", [True, False])
def test_of_stanford_alpaca_and_chinese_llama_alpaca(tokenizer, style, joint):
    whole = style.prompt(ENTRY) + ENTRY["output"]
    ((full,), _) = label_rows([ENTRY], tokenizer, style, joint=joint, original=True)
    n_broken = 0
    for limit in range(1, len(full.ids) + 2):
        options = {"joint": joint, "max_length": limit}
        ((row,), _) = label_rows([ENTRY], tokenizer, style, original=True, **options)
        assert row.ids == full.ids[:limit] and row.labels == full.labels[:limit]
        seen = text_bytes(row.ids, tokenizer)
        assert whole.encode().startswith(seen)
        n_broken += "\ufffd" in seen.decode(errors="replace")
        mended = label_rows([ENTRY], tokenizer, style, skip_bad_rows=True, **options)
        assert [mended_row.ids for mended_row in mended.rows] in ([row.ids], [])
        if mended.rows:
            assert "tokens learned" in side_by_side(ENTRY, tokenizer, style, **options)
    assert n_broken > 10, "many limits fall within a character"


def test_of_a_prompt_cut_before_its_header(tokenizer):
    """The header stays whole; the letters before it may be cut anywhere."""
    header = "\n\n### Response:"
    for limit in range(6, 90):
        options = {"max_prompt_length": limit, "skip_bad_rows": True}
        for row in label_rows([ENTRY], tokenizer, **options).rows:
            asked = text_bytes(row.ids[: row.labels.count(-100)], tokenizer)
            assert asked.endswith(header.encode())
            start = asked.removesuffix(header.encode())
            assert ALPACA_STYLE.prompt(ENTRY).encode().startswith(start)


@pytest.mark.parametrize("original", [True, False])
def test_of_chatglm(tokenizer, original):
    chat = {**ENTRY, "history": [[FLAG, FLAG]]}
    for length in range(3, 60):
        options = {"max_source_length": length, "max_target_length": length, "original": original}
        for entry in (ENTRY, chat):
            ((row,), _) = chatglm_rows([entry], tokenizer, **options)
            ((asked,), _) = chatglm_evaluation_rows([entry], tokenizer, **options)
            answers = row.ids[row.ids.index(50258) + 1 :], asked.labels
            for ids in answers:
                assert entry["output"].encode().startswith(text_bytes(ids, tokenizer))
            assert len(row.ids) <= 2 * length and len(asked.ids) <= length + 1


def test_of_lamini(tokenizer):
    whole = f"{ENTRY['instruction']}\n{FLAG}{ENTRY['output']}".encode()
    for limit in range(1, 60):
        ((row,), _) = lamini_rows([ENTRY], tokenizer, limit)
        assert whole.endswith(text_bytes(row.ids, tokenizer)) and len(row.ids) <= limit
