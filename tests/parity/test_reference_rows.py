"""Rows in other projects' training formats equal those that the originals' code makes.

Each oracle does with a Hugging Face tokenizer what the original's function does, as its source
says. Hundreds of random entries must have the same ids, labels and masks. The tokens that end, pad
and mark a text are characters here that no entry has, so that a typed "<|endoftext|>" is ordinary
text to both; what the published tokens make of it is among the departures, each of which has a test
of its own. Sources: tatsu-lab/stanford_alpaca train.py, ymcui/Chinese-LLaMA-Alpaca
scripts/training/build_dataset.py, THUDM/ChatGLM-6B ptuning/main.py, and the notebook "Data
preparation" of the course "Finetuning Large Language Models".
"""

import copy
import json
import random

import pytest
import torch
import transformers
from test_labels import PLAIN, PLANTED
from torch.nn.utils.rnn import pad_sequence

from ch07.data.prompt_styles import ALPACA_STYLE, CHINESE_ALPACA_STYLE
from ch07.data.reference_formats.alpaca_labels import label_rows
from ch07.data.reference_formats.chatglm_evaluation import (
    chatglm_evaluation_rows,
    collate_evaluation_rows,
)
from ch07.data.reference_formats.chatglm_labels import chatglm_rows
from ch07.data.reference_formats.label_collate import collate_label_rows
from ch07.data.reference_formats.lamini_columns import joined_text
from ch07.data.reference_formats.lamini_rows import lamini_rows

END, PAD, GMASK, BOS = "<|endoftext|>", "[PAD]", "[gMASK]", "<sop>"
SECRET = {END: "\ue000", PAD: "\ue001", GMASK: "\ue002", BOS: "\ue003"}  # for private use
GMASK_ID, BOS_ID, END_ID, PAD_ID = 50257, 50258, 50256, 50259
LIMITS = [512, 60, 45, 30, 2]

# --- entries and tokenizers ---------------------------------------------------------------------

PIECES = [
    *"the Paris don't can'T x 42 3.14 naïve Ärger ( ) : -- :// {input} %s \\n <n> ###".split(),
    *"绿色 日本語 🙂 👩\u200d👩\u200d👧 🇫🇷 𠮷 问\uff1a e\u0301 \u200b".split(),
    *(END, PAD, GMASK, BOS, "### Response:", "[Round 0]", '"', "\u3000", "\xa0", "\t", "\r\n"),
]
SEAMS = ["", "", " ", " ", " ", "  ", "\n", "\n\n"]


def random_text(draw, n_pieces):
    return "".join(draw.choice(PIECES) + draw.choice(SEAMS) for _ in range(n_pieces))


def random_entries(seed, n=100):
    """Short ones mostly; one in eight is longer than the limits in its question or its answer."""
    draw = random.Random(seed)
    entries = []
    for _ in range(n):
        entry = {"instruction": random_text(draw, draw.choice([1, 3, 3, 6, 6, 9, 12, 150]))}
        entry["output"] = random_text(draw, draw.choice([0, 1, 2, 3, 6, 9, 20, 150]))
        if draw.random() < 0.3:
            entry["output"] = draw.choice(PLANTED + PLAIN)
        if draw.random() < 0.6:
            entry["input"] = draw.choice(["", "x", "x" + random_text(draw, 5)])
        entries.append(entry)
    return entries


def random_chats(seed, n=100):
    draw = random.Random(seed)
    return [
        {
            "instruction": random_text(draw, draw.choice([0, 1, 3, 6, 20])),
            "output": random_text(draw, draw.choice([0, 1, 6, 20, 80])),
            "history": [
                [random_text(draw, draw.randint(0, 6)), random_text(draw, draw.randint(0, 6))]
                for _ in range(draw.choice([0, 0, 1, 2, 5]))
            ],
        }
        for _ in range(n)
    ]


def make_tokenizer(names, like_chatglm=False):
    """GPT-2's fast tokenizer with the special tokens `names`; ChatGLM's adds two to every text."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.processors import TemplateProcessing

    from ch07.models.hf_files import gpt2_tokenizer_files

    content = json.loads(gpt2_tokenizer_files(512)["tokenizer.json"])
    vocabulary = content["model"]["vocab"]
    vocabulary[names[END]] = vocabulary.pop(END)
    content["added_tokens"][0]["content"] = names[END]
    fast = Tokenizer.from_str(json.dumps(content))
    marks = [names[name] for name in (GMASK, BOS, PAD)]
    fast.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    if like_chatglm:  # `build_inputs_with_special_tokens`
        fast.post_processor = TemplateProcessing(
            single=f"$A {marks[0]} {marks[1]}",
            special_tokens=[(marks[0], GMASK_ID), (marks[1], BOS_ID)],
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast,
        eos_token=names[END],
        pad_token=marks[2],
        padding_side="left" if like_chatglm else "right",
    )


@pytest.fixture(scope="module")
def words():
    return make_tokenizer(SECRET)


@pytest.fixture(scope="module")
def published_words():
    return make_tokenizer({name: name for name in SECRET})


@pytest.fixture(scope="module")
def chatglm_words():
    return make_tokenizer(SECRET, like_chatglm=True)


def as_rows(rows):
    return [(row.ids, row.labels) for row in rows]


# --- the oracles --------------------------------------------------------------------------------


def preprocess(entries, words, limit):
    """Stanford Alpaca: the whole text, and its prompt by itself to count what is masked."""

    def tokenized(text):
        asked = {"max_length": limit, "truncation": True, "padding": "longest"}
        return words(text, return_tensors="pt", **asked)["input_ids"][0]

    rows = []
    for entry in entries:
        has_input = entry.get("input", "") != ""
        template = ALPACA_STYLE.with_input if has_input else ALPACA_STYLE.no_input
        prompt = template.format_map(entry)
        ids = tokenized(prompt + f"{entry['output']}{words.eos_token}")
        labels = ids.clone()
        labels[: int((tokenized(prompt) != words.pad_token_id).sum())] = -100
        rows.append((ids, labels))
    return rows


def supervised_collator(rows, words):
    """`DataCollatorForSupervisedDataset`, the same in Alpaca and in Chinese-LLaMA-Alpaca."""
    ids, labels = zip(*rows, strict=True)
    ids = pad_sequence(ids, batch_first=True, padding_value=words.pad_token_id)
    labels = pad_sequence(labels, batch_first=True, padding_value=-100)
    return {"input_ids": ids, "labels": labels, "attention_mask": ids.ne(words.pad_token_id)}


def build_instruction_dataset(entries, words, limit):
    """Chinese-LLaMA-Alpaca: sources and targets apart, joined, then cut."""
    sources, targets = [], []
    for entry in entries:
        instruction = entry["instruction"]
        if entry.get("input") is not None and entry["input"] != "":
            instruction += "\n" + entry["input"]
        sources.append(CHINESE_ALPACA_STYLE.no_input.format_map({"instruction": instruction}))
        targets.append(f"{entry['output']}{words.eos_token}")
    sources = words(sources, return_attention_mask=False)["input_ids"]
    targets = words(targets, return_attention_mask=False, add_special_tokens=False)["input_ids"]
    return [
        (torch.tensor(s + t)[:limit], torch.tensor([-100] * len(s) + t)[:limit])
        for s, t in zip(sources, targets, strict=True)
    ]


def round_text(number, question, answer):
    return f"[Round {number}]\n问：{question}\n答：{answer}"  # noqa: RUF001


def chat_text(query, history):
    turns = [round_text(i, *turn) + "\n" for i, turn in enumerate(history)]
    return "".join(turns) + round_text(len(history), query, "")


def preprocess_function_train(entries, words, source, target, ignore_pad=True):
    """ChatGLM-6B: rows of one length, whose labels begin at the first bos."""
    rows = []
    for entry in entries:
        query, answer, history = entry["instruction"], entry["output"], entry.get("history")
        if not (query and answer):
            continue
        prompt = query if history is None else chat_text(query, history)
        asked = words.encode(prompt, add_special_tokens=False)[: source - 1]
        answered = words.encode(answer, add_special_tokens=False)[: target - 2]
        ids = [*asked, GMASK_ID, BOS_ID, *answered, END_ID]
        start = ids.index(BOS_ID)
        labels = [-100] * start + ids[start:]
        padding = [words.pad_token_id] * (source + target - len(ids))
        ids += padding
        labels += padding
        if ignore_pad:
            labels = [-100 if label == words.pad_token_id else label for label in labels]
        rows.append((ids, labels))
    return rows


def preprocess_function_eval(entries, chatglm_words, source, target):
    """ChatGLM-6B: the tokenizer cuts, adds [gMASK] and bos, and pads on the left."""
    kept = [entry for entry in entries if entry["instruction"] and entry["output"]]
    prompts = []
    for entry in kept:
        history = entry.get("history")
        query = entry["instruction"]
        prompts.append(chat_text(query, history) if history else query)
    asked = chatglm_words(prompts, max_length=source, truncation=True, padding=True)
    answers = [entry["output"] for entry in kept]
    answered = chatglm_words(text_target=answers, max_length=target, truncation=True)["input_ids"]
    return asked, answered


def tokenize_function(texts, words, limit):
    """The course: one text a call, tokenized twice; `limit` None is utilities.py."""
    words = copy.deepcopy(words)
    words.pad_token = words.eos_token
    words.truncation_side = "left"
    rows = []
    for text in texts:
        n_tokens = words(text, return_tensors="np", padding=True)["input_ids"].shape[1]
        options = {} if limit is None else {"max_length": min(n_tokens, limit)}
        seen = words(text, return_tensors="np", truncation=True, **options)["input_ids"]
        rows.append(seen[0].tolist())
    return rows


# --- equality -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", LIMITS)
def test_stanford_alpaca(words, tokenizer, limit):
    entries = random_entries(limit, 150)
    theirs = preprocess(entries, words, limit)
    ours = label_rows(entries, tokenizer, joint=True, original=True, max_length=limit).rows
    assert as_rows(ours) == [(ids.tolist(), labels.tolist()) for ids, labels in theirs]
    check_batches(ours, theirs, words)


@pytest.mark.parametrize("limit", LIMITS)
def test_chinese_llama_alpaca(words, tokenizer, limit):
    entries = random_entries(1000 + limit, 150)
    entries[3]["input"] = None  # `datasets` gives None for a column that a row lacks
    theirs = build_instruction_dataset(entries, words, limit)
    ours = label_rows(
        entries, tokenizer, CHINESE_ALPACA_STYLE, original=True, max_length=limit
    ).rows
    assert as_rows(ours) == [(ids.tolist(), labels.tolist()) for ids, labels in theirs]
    check_batches(ours, theirs, words)


def check_batches(ours, theirs, words):
    """Batches of 7: ids, labels and Alpaca's boolean mask; ours by position is the same here."""
    for start in range(0, len(ours), 7):
        batch = collate_label_rows(ours[start : start + 7], words.pad_token_id, mask_by_value=True)
        wanted = supervised_collator(theirs[start : start + 7], words)
        assert set(batch) == set(wanted)
        for name, tensor in wanted.items():
            assert tensor.dtype == batch[name].dtype and torch.equal(tensor, batch[name]), name
        by_position = collate_label_rows(ours[start : start + 7], words.pad_token_id)
        assert torch.equal(by_position["attention_mask"].bool(), wanted["attention_mask"])


def test_the_random_entries_reach_every_case(tokenizer):
    """Merged tokens, prompts that leave nothing to learn, answers without their end."""
    entries = [entry for limit in LIMITS for entry in random_entries(limit, 150)]
    joint, mended = (
        label_rows(entries, tokenizer, joint=True, original=original, max_length=limit).rows
        for original, limit in ((True, 45), (False, None))
    )
    whole = label_rows(entries, tokenizer, joint=True, original=True).rows
    merged = sum(a.labels != b.labels for a, b in zip(whole, mended, strict=True))
    masked = sum(row.n_counted == 0 for row in joint)
    endless = sum(row.n_counted > 0 and not row.has_end() for row in joint)
    assert min(merged, masked, endless) > 50
    typed = [entry for entry in entries if END in entry["instruction"] + entry["output"]]
    assert len(typed) > 100 and sum(row.has_end() for row in joint) > 50


@pytest.mark.parametrize("sizes", [(64, 64), (20, 9), (2, 3), (200, 300)])
@pytest.mark.parametrize("with_history", [True, False])
def test_chatglm_training(words, tokenizer, sizes, with_history):
    chats = random_chats(sum(sizes))
    if not with_history:
        chats = [{**chat, "history": None} for chat in chats]
    theirs = preprocess_function_train(chats, words, *sizes)
    ours, dropped = chatglm_rows(
        chats, tokenizer, max_source_length=sizes[0], max_target_length=sizes[1], original=True
    )
    assert len(ours) + len(dropped) == len(chats) and len(dropped) > 10
    batch = collate_label_rows(ours, PAD_ID, length=sum(sizes))
    assert batch["input_ids"].tolist() == [ids for ids, _ in theirs]
    assert batch["labels"].tolist() == [labels for _, labels in theirs]
    counted = preprocess_function_train(chats, words, *sizes, ignore_pad=False)
    batch = collate_label_rows(ours, PAD_ID, ignore_index=PAD_ID, length=sum(sizes))
    assert batch["labels"].tolist() == [labels for _, labels in counted]


@pytest.mark.parametrize("sizes", [(64, 64), (20, 9), (3, 3), (200, 300)])
@pytest.mark.parametrize("with_history", [True, False])
def test_chatglm_evaluation(chatglm_words, tokenizer, sizes, with_history):
    chats = random_chats(1 + sum(sizes))
    if not with_history:
        chats = [{**chat, "history": None} for chat in chats]
    asked, answered = preprocess_function_eval(chats, chatglm_words, *sizes)
    ours, dropped = chatglm_evaluation_rows(
        chats, tokenizer, max_source_length=sizes[0], max_target_length=sizes[1], original=True
    )
    assert len(ours) + len(dropped) == len(chats)
    assert [row.labels for row in ours] == answered
    batch = collate_evaluation_rows(ours, PAD_ID)
    assert batch["input_ids"].tolist() == asked["input_ids"]
    assert batch["attention_mask"].tolist() == asked["attention_mask"]
    features = [{"input_ids": row.ids, "labels": row.labels} for row in ours[:9]]
    theirs = transformers.DataCollatorForSeq2Seq(chatglm_words, label_pad_token_id=-100)(features)
    batch = collate_evaluation_rows(ours[:9], PAD_ID)
    assert set(batch) == set(theirs)
    for name, tensor in batch.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("limit", [*LIMITS, 2048, None])
def test_lamini(words, tokenizer, limit):
    entries = random_entries(limit or 0, 150)
    questions = [
        entry["instruction"] + ("\n" + entry["input"] if entry.get("input") else "")
        for entry in entries
    ]
    texts = [q + entry["output"] for q, entry in zip(questions, entries, strict=True)]
    ours, dropped = lamini_rows(entries, tokenizer, limit)
    theirs = tokenize_function(texts, words, limit)
    assert as_rows(ours) == [(ids, ids) for ids in theirs] and dropped == []
    assert not any(END_ID in row.ids for row in ours), "no end-of-text token"
    by_default = lamini_rows(entries, tokenizer).rows
    assert by_default == lamini_rows(entries, tokenizer, 2048).rows


# --- departures, each by name -------------------------------------------------------------------


@pytest.mark.parametrize("typed", [END, PAD])
def test_departure_a_typed_special_token_is_ordinary_text(words, published_words, tokenizer, typed):
    """Only the published names make a difference, and only in the originals."""
    entry = {"instruction": f"Say {typed} twice.", "input": "", "output": f"a{typed}b"}
    ours = label_rows([entry], tokenizer, joint=True, original=True).rows[0]
    apart = label_rows([entry], tokenizer, CHINESE_ALPACA_STYLE, original=True).rows[0]
    ordinary = preprocess([entry], words, 512)[0]
    special = preprocess([entry], published_words, 512)[0]
    assert ours.ids == ordinary[0].tolist() and ours.labels == ordinary[1].tolist()
    assert len(special[0]) < len(ordinary[0])
    name = END_ID if typed == END else PAD_ID
    for ids in (ours.ids, apart.ids):
        assert ids.count(name) == (typed == END), "only the row's own end"
    assert special[0].tolist().count(name) == 2 + (typed == END)
    n_masked = int((special[1] == -100).sum())
    prompt_length = len(published_words(ALPACA_STYLE.prompt(entry))["input_ids"])
    assert n_masked == prompt_length - (typed == PAD), "a typed [PAD] isn't counted as prompt"


def test_departure_a_typed_mark_does_not_move_chatglms_labels(words, published_words, tokenizer):
    entry = {"instruction": "Write <sop> first.", "output": "No."}
    ours = chatglm_rows([entry], tokenizer, original=True).rows[0]
    ((ids, labels),) = preprocess_function_train([entry], words, 64, 64)
    assert ids[: len(ours.ids)] == ours.ids and labels[: len(ours.ids)] == ours.labels
    ((ids, labels),) = preprocess_function_train([entry], published_words, 64, 64)
    learned = [label for label in labels if label != -100]
    assert learned.count(BOS_ID) == 2, "part of the question is learned"
    assert ours.labels.count(BOS_ID) == 1


@pytest.mark.parametrize("blank", ["   ", "\n", None])
def test_departure_blank_input_counts_as_none(words, tokenizer, blank):
    """Alpaca writes a section "### Input:" all the same, with the word None in it for a null."""
    entry = {"instruction": "Name a colour.", "input": blank, "output": "Red"}
    none = {**entry, "input": ""}
    for style, joint in ((ALPACA_STYLE, True), (CHINESE_ALPACA_STYLE, False)):
        options = {"joint": joint, "original": True}
        rows = label_rows([entry, none], tokenizer, style, **options).rows
        assert rows[0] == rows[1]
    blank_row, none_row = lamini_rows([entry, none], tokenizer).rows
    assert blank_row == none_row
    theirs = preprocess([entry, none], words, 512)
    ours = label_rows([none], tokenizer, joint=True, original=True).rows[0]
    assert theirs[0][0].tolist() != theirs[1][0].tolist() == ours.ids
    theirs = build_instruction_dataset([entry, none], words, 512)
    assert torch.equal(theirs[0][0], theirs[1][0]) == (blank is None)


@pytest.mark.parametrize("value", [None, 42, True])
def test_departure_an_answer_that_is_not_text_is_refused(words, tokenizer, value):
    """The originals write it out: a null becomes the word None, and is learned."""
    entry = {"instruction": "Name a colour.", "input": "", "output": value}
    for ids, labels in (
        preprocess([entry], words, 512)[0],
        build_instruction_dataset([entry], words, 512)[0],
    ):
        assert words.decode(ids[labels != -100]) == f"{value}{words.eos_token}"
    for make in (label_rows, chatglm_rows, chatglm_evaluation_rows, lamini_rows):
        with pytest.raises(ValueError, match="entry 0: 'output' is not text"):
            make([entry], tokenizer)


def test_departure_a_text_without_tokens_is_refused(words, tokenizer):
    """The course makes a row of no tokens, which a model can't read."""
    entry = {"instruction": "", "output": ""}
    assert tokenize_function([""], words, 2048) == [[]]
    with pytest.raises(ValueError, match="entry 0 has no token"):
        lamini_rows([entry], tokenizer)


def test_departure_labels_are_padded_by_position(words, tokenizer):
    """With padding that is also the end, ChatGLM's rule by value would never teach to stop."""
    same = copy.deepcopy(words)
    same.pad_token = same.eos_token
    entry = {"instruction": "Name a colour.", "output": "Red"}
    ((ids, labels),) = preprocess_function_train([entry], same, 20, 20)
    batch = collate_label_rows(
        chatglm_rows([entry], tokenizer, original=True).rows, END_ID, length=40
    )
    assert batch["input_ids"].tolist() == [ids]
    differing = [i for i in range(40) if batch["labels"][0, i] != labels[i]]
    assert len(differing) == 1 and ids[differing[0]] == END_ID
    assert END_ID not in labels and batch["labels"][0].tolist().count(END_ID) == 1


def test_departure_laminis_questions_keep_their_instruction(words, tokenizer):
    """The course reads the columns input and output of a row that also has an instruction."""
    entry = {"instruction": "Translate: ", "input": "chat", "output": "cat"}
    theirs = tokenize_function([joined_text(entry)], words, 2048)
    ours = lamini_rows([entry], tokenizer).rows[0]
    assert tokenizer.decode(theirs[0]) == "chatcat"
    assert tokenizer.decode(ours.ids) == "Translate: \nchatcat"
