"""Conversations: their ids and masks, what a limit drops, how they are split."""

import json
import random

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ch07.data.chat_dataset import (
    ChatDataset,
    collate_responses,
    drop_oldest_turns,
    encode_chat_prompt,
    encode_turns,
    make_dataset,
    token_roles,
)
from ch07.data.chat_forms import entries_of_turns, full_prompt, question_line
from ch07.data.conversations import read_messages
from ch07.data.entries import load_entries, read_data
from ch07.data.findings import Finding, RowFault, summarize_findings
from ch07.data.prompt_styles import STYLES
from ch07.data.splits import overlap, split_entries
from ch07.data.token_store import write_store
from ch07.data.token_store_dataset import StoredDataset
from ch07.data.tokenizer import load_tokenizer
from ch07.utils.errors import DataError
from collate import END_OF_TEXT, custom_collate_fn, custom_collate_response_fn
from instruction_dataset import BOOK_STYLE, InstructionDataset, encode_prompt

tokenizer = load_tokenizer()
FRUIT = {"instruction": "Name a fruit.", "output": "Kumquat"}
PLURAL = {"instruction": "And its plural?", "input": "", "output": "Kumquats"}
CHAT = {**PLURAL, "history": [FRUIT], "system": "Answer in one word."}

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=12)
texts = texts.map(str.strip).filter(bool)
turns = st.fixed_dictionaries({"instruction": texts, "output": texts})
styles = st.sampled_from(list(STYLES.values()))


@st.composite
def chats(draw, min_turns=1):
    *history, last = draw(st.lists(turns, min_size=min_turns, max_size=4))
    entry = {**last, "input": draw(st.just("") | texts)}
    if history:
        entry["history"] = history
    if draw(st.booleans()):
        entry["system"] = draw(texts)
    return entry


def row(entry, style=BOOK_STYLE, loss_on="response"):
    """(ids with the last end, for each whether it is a counted target) as they enter the loss."""
    dataset = make_dataset([entry], tokenizer, style, loss_on)
    collate = custom_collate_fn if loss_on == "all" else collate_responses
    inputs, targets = collate([dataset[0]])
    ids = [*inputs[0].tolist(), END_OF_TEXT]
    return ids, [False, *(targets[0] != -100).tolist()]


# --- ids and masks --------------------------------------------------------------------------------
@settings(deadline=None)
@given(turns, texts | st.just(""), styles)
def test_a_conversation_of_one_turn_is_todays_row_id_for_id(turn, text, style):
    entry = {**turn, "input": text}
    one = InstructionDataset([entry], tokenizer, style, with_prompt_length=True)
    chat = ChatDataset([entry], tokenizer, style, with_counted=True)
    assert chat[0][1] == one[0][1]
    assert chat.lengths == one.lengths and chat.prompt_lengths == one.prompt_lengths
    for mine, theirs in zip(collate_responses([chat[0]]), collate_responses([one[0]]), strict=True):
        assert mine.equal(theirs)
    assert encode_chat_prompt(entry, tokenizer, style) == encode_prompt(entry, tokenizer, style)


@settings(deadline=None)
@given(chats(min_turns=2), styles)
def test_a_prefix_of_a_chat_is_a_prefix_of_its_ids(entry, style):
    shorter = {**entry["history"][-1], "history": entry["history"][:-1]}
    shorter |= {"system": entry["system"]} if "system" in entry else {}
    ids, mask = row(shorter, style)
    longer, longer_mask = row(entry, style)
    assert longer[: len(ids)] == ids and longer_mask[: len(mask)] == mask


@settings(deadline=None)
@given(chats(), styles)
def test_every_answer_and_its_end_are_counted_and_nothing_else(entry, style):
    ids, mask = row(entry, style)
    wanted = []
    for turn in encode_turns(entry, tokenizer, style):
        wanted += [False] * len(turn.prompt) + [True] * (len(turn.answer) + 1)
    assert mask == wanted
    n_ends = sum(counted for i, counted in zip(ids, mask, strict=True) if i == END_OF_TEXT)
    assert n_ends == len(entry.get("history", ())) + 1, "each turn ends with a counted target"
    _, last = row(entry, style, "last-response")
    n_last = len(tokenizer.encode_ordinary(entry["output"])) + 1
    assert sum(last) == n_last and all(last[-n_last:])
    assert all(row(entry, style, "all")[1][1:])


@settings(deadline=None)
@given(chats(), styles)
def test_the_prompt_at_inference_is_that_of_training(entry, style):
    ids, _ = row(entry, style)
    prompt = encode_chat_prompt({**entry, "output": ""}, tokenizer, style)
    assert ids[: len(prompt)] == prompt
    assert len(ids) - len(prompt) == len(tokenizer.encode_ordinary(entry["output"])) + 1


@settings(deadline=None)
@given(chats(), styles)
def test_each_token_has_a_role(entry, style):
    roles = [*token_roles(entry, tokenizer, style), "end"]
    ids, mask = row(entry, style)
    assert len(roles) == len(ids)
    counted = {role for role, c in zip(roles, mask, strict=True) if c}
    assert counted == {"answer", "end"}
    assert ("system" in roles) == ("system" in entry)


def test_a_typed_mark_is_ordinary_text():
    """Nobody ends a turn by writing its end."""
    entry = {**CHAT, "instruction": "Say <|endoftext|>.", "system": "<|endoftext|>"}
    ids, _ = row(entry)
    assert ids.count(END_OF_TEXT) == 2  # one for each answer


def test_what_the_book_style_writes():
    wanted = (
        "Answer in one word.\n\n### Instruction:\nName a fruit.\n\n### Response:\nKumquat"
        "\n\n### Instruction:\nAnd its plural?\n\n### Response:\n"
    )
    assert full_prompt(CHAT, BOOK_STYLE) == wanted
    ids, _ = row(CHAT)
    assert tokenizer.decode(ids) == (
        wanted.replace("Kumquat\n", "Kumquat<|endoftext|>\n") + "Kumquats<|endoftext|>"
    )


@pytest.mark.parametrize("which", ["first", "last"])
def test_an_answer_of_weight_0_is_read_but_not_counted(which):
    entry = {**CHAT, "history": [dict(FRUIT)]}
    (entry["history"][0] if which == "first" else entry)["counts"] = False
    ids, mask = row(entry)
    assert ids == row(CHAT)[0]
    counted = tokenizer.decode([i for i, c in zip(ids, mask, strict=True) if c])
    assert counted == ("Kumquats" if which == "first" else "Kumquat") + "<|endoftext|>"


def test_a_batch_of_chats_and_single_rows():
    dataset = make_dataset([CHAT, PLURAL], tokenizer, BOOK_STYLE, "response")
    inputs, targets = collate_responses([dataset[0], dataset[1]])
    for i, entry in enumerate((CHAT, PLURAL)):
        ids, mask = row(entry)
        assert [*inputs[i, : len(ids) - 1].tolist(), END_OF_TEXT] == ids
        assert (targets[i] != -100).tolist()[: len(mask) - 1] == mask[1:]
        assert (targets[i, len(mask) - 1 :] == -100).all()
    mixed = collate_responses([dataset[0], (3, [1, 2, 3, 4])])
    assert (mixed[1][1] != -100).sum() == 2


def test_without_chats_the_batch_is_the_books():
    rows = [(2, [1, 2, 3]), (1, [4, 5])]
    for mine, books in zip(collate_responses(rows), custom_collate_response_fn(rows), strict=True):
        assert mine.equal(books)


# --- as transformers masks them -------------------------------------------------------------------
def random_chat(r):
    words = ["red", "Blue,", "kumquat", "don't", "3 + 4", "naïve", "日本", "\n-", "a  b", "x.y"]
    text = lambda: " ".join(r.choices(words, k=r.randint(1, 6))).strip()  # noqa: E731
    messages = [{"role": "system", "content": text()}] if r.random() < 0.5 else []
    for _ in range(r.randint(1, 4)):
        messages.append({"role": "user", "content": text()})
        messages.append({"role": "assistant", "content": text()})
    return messages


@pytest.mark.parametrize("name", ["book", "chatml", "question-answer"])
def test_300_random_chats_are_masked_as_transformers_masks_them(name, tmp_path):
    from transformers import GPT2TokenizerFast

    from ch07.models.hf_files import chat_template, gpt2_tokenizer_files

    style = STYLES[name]
    for file, content in gpt2_tokenizer_files(1024).items():
        (tmp_path / file).write_bytes(content)
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    theirs.chat_template = chat_template(style, conversations=True)
    r = random.Random(name)
    path = tmp_path / "chats.jsonl"
    chats = [random_chat(r) for _ in range(300)]
    path.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats), encoding="utf-8")
    for chat, entry in zip(chats, load_entries(path), strict=True):
        encoded = theirs.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = row(entry, style)
        assert encoded["input_ids"] == ids
        assert encoded["assistant_masks"] == [int(counted) for counted in mask]


# --- limits ---------------------------------------------------------------------------------------
@settings(deadline=None)
@given(chats(), st.integers(1, 80))
@example({**PLURAL, "input": "kumquat", "history": [FRUIT, FRUIT]}, 69)  # it fits without one turn
def test_the_oldest_turns_go_first_and_the_question_never(entry, limit):
    shorter, n_dropped = drop_oldest_turns(entry, tokenizer, BOOK_STYLE, limit)
    history = entry.get("history", [])
    assert shorter.get("history", []) == history[n_dropped:]
    assert {k: v for k, v in shorter.items() if k != "history"} == {
        k: v for k, v in entry.items() if k != "history"
    }

    def length(chat):
        return len(row(chat)[0]) - 1

    assert n_dropped == len(history) or length(shorter) <= limit
    if n_dropped:
        assert length({**entry, "history": history[n_dropped - 1 :]}) > limit


def test_what_a_limit_drops_is_told_with_its_row(tmp_path):
    from ch07.config import FinetuneOptions
    from ch07.training.run_plan import build_plan

    rows = [{"messages": _messages(n)} for n in (1, 2, 5, 6)]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = []
    options = FinetuneOptions(data=str(path), allowed_max_length=80, split="book")
    plan = build_plan(options, said.append)
    (line,) = [line for line in said if "oldest" in line]
    assert "the oldest turns were left out: more than 80 tokens (2: line 3, line 4)" in line
    lengths = [n for data in plan.rows.datasets.values() for n in data.lengths.tolist()]
    assert max(lengths) <= 80 and len(lengths) == 4


def _messages(n_turns, start=0):
    return [
        {"role": role, "content": f"{role} says {i}"}
        for i in range(start, start + n_turns)
        for role in ("user", "assistant")
    ]


# --- splits ---------------------------------------------------------------------------------------
def test_no_turn_of_a_held_out_chat_is_in_training():
    """Chats that begin alike, and the single question that they begin with, stay together."""
    r = random.Random(0)
    entries = []
    for i in range(200):
        first = {"instruction": f"Question {i % 40}", "output": "x"}
        history = [first, {"instruction": f"More {r.random()}", "output": "y"}]
        entries.append({"instruction": "And?", "input": "", "output": str(i), "history": history})
        entries.append({**first, "input": "", "instruction": first["instruction"].upper()})
    splits = split_entries(entries)
    assert overlap(splits) == {"test": 0, "validation": 0}
    assert all(splits.values())

    def questions(rows):
        chats = [row.get("history", [row])[0]["instruction"].casefold() for row in rows]
        return set(chats)

    assert not questions(splits["train"]) & questions(splits["test"] + splits["validation"])


def test_the_same_last_question_is_no_leak():
    entries = [
        {**PLURAL, "history": [{"instruction": f"Name fruit {i}.", "output": "x"}]}
        for i in range(100)
    ]
    assert all(len(rows) > 0 for rows in split_entries(entries).values())


# --- files ----------------------------------------------------------------------------------------
def test_a_written_chat_is_read_again(tmp_path):
    from ch07.data.entries import write_new_entries

    entries = [{**CHAT, "history": [{**FRUIT, "counts": False}]}, dict(PLURAL)]
    for name in ("chats.json", "chats.jsonl"):
        write_new_entries(tmp_path / name, entries)
        assert load_entries(tmp_path / name) == entries


def test_history_as_pairs_of_texts(tmp_path):
    path = tmp_path / "rows.json"
    pairs = [["Name a fruit.", "Kumquat"]]
    path.write_text(json.dumps([{**PLURAL, "history": pairs, "system": ""}]), encoding="utf-8")
    (entry,) = load_entries(path)
    assert entry == {**PLURAL, "history": [FRUIT]}


@pytest.mark.parametrize(
    ("messages", "entry"),
    [
        (
            [{"role": "system", "content": " Be short. "}, *_messages(2)],
            {"system": "Be short.", "instruction": "user says 1", "input": "",
             "output": "assistant says 1",
             "history": [{"instruction": "user says 0", "output": "assistant says 0"}]},
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
             {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "weight": 1}],
            {"instruction": "c", "input": "", "output": "d",
             "history": [{"instruction": "a", "output": "b", "counts": False}]},
        ),
        (
            [*_messages(1), {"role": "user", "content": "And then?"}],
            {"instruction": "user says 0", "input": "", "output": "assistant says 0"},
        ),
    ],
)  # fmt: skip
def test_messages_become_an_entry(tmp_path, messages, entry):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    file = read_data(path)
    assert list(file.entries) == [entry]
    told = any("has no answer, is not trained on" in finding.text for finding in file.findings)
    assert told == (messages[-1]["role"] == "user")


def test_a_chat_whose_answers_all_have_weight_0_is_left_out(tmp_path):
    path = tmp_path / "chat.jsonl"
    zero = [{**message, "weight": 0} for message in _messages(2)]
    path.write_text(
        "\n".join(json.dumps({"messages": chat}) for chat in (zero, _messages(1))), encoding="utf-8"
    )
    assert len(load_entries(path)) == 1


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "assistant", "content": "Hi"}, *_messages(1)], "don't take turns: assistant, u"),
        ([*_messages(1), {"role": "system", "content": "x"}, *_messages(1)], "don't take turns"),
        ([{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}], "a tool's call"),
        ([{"content": "x"}], "has no role"),
        ([{"role": "user"}], "has no text"),
        ([{"role": "user", "content": 5}], "is a number, but must be text"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0.5}],
         "has the weight 0.5: only 0 and 1 are known"),
    ],
)  # fmt: skip
def test_what_is_no_conversation(messages, words):
    with pytest.raises(RowFault, match=words):
        read_messages(messages)


# --- a token store --------------------------------------------------------------------------------
@pytest.mark.parametrize("loss_on", ["all", "response", "last-response"])
def test_a_store_gives_the_items_of_the_file(tmp_path, loss_on):
    r = random.Random(1)
    path = tmp_path / "chats.jsonl"
    rows = [{"messages": random_chat(r)} for _ in range(40)] + [dict(PLURAL)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    store = write_store(path, tmp_path / "store", BOOK_STYLE)
    entries = load_entries(path)
    assert [store.entry(i) for i in range(len(store))] == entries
    from_file = make_dataset(entries, tokenizer, BOOK_STYLE, loss_on)
    stored = StoredDataset(store, loss_on)
    if loss_on == "all":
        assert [stored[i] for i in range(41)] == [from_file[i] for i in range(41)]
        return
    for i in range(41):
        for mine, theirs in zip(
            collate_responses([stored[i]]), collate_responses([from_file[i]]), strict=True
        ):
            assert mine.equal(theirs)


def test_a_store_without_chats_has_the_files_it_had(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PLURAL), encoding="utf-8")
    store = write_store(path, tmp_path / "store", BOOK_STYLE)
    assert not store.has_chats and not (tmp_path / "store" / "counted.bin").exists()


# --- the loss -------------------------------------------------------------------------------------
def test_the_loss_of_a_chat_is_that_of_its_turns():
    """With causal attention, each answer's loss is that of the chat that ends with it."""
    from gpt_model import GPTConfig, GPTModel
    from train_loop import sum_loss

    torch.manual_seed(0)
    model = GPTModel(GPTConfig(emb_dim=16, n_heads=2, n_layers=2, context_length=128)).eval()

    def loss(entry, loss_on):
        dataset = make_dataset([entry], tokenizer, BOOK_STYLE, loss_on)
        return sum_loss(*collate_responses([dataset[0]]), model, "cpu")[0].item()

    first = {**FRUIT, "input": "", "system": CHAT["system"]}
    parts = loss(first, "response") + loss(CHAT, "last-response")
    assert loss(CHAT, "response") == pytest.approx(parts, rel=1e-5)


# --- what people and judges are shown -------------------------------------------------------------
def test_a_judge_reads_what_was_said_before():
    from ch07.evaluation.llm_judge import judge_prompt

    said = judge_prompt(CHAT, "Kumquats")
    before = "System: Answer in one word.\nUser: Name a fruit.\nAssistant: Kumquat"
    assert said.index(before) < said.index("The task:\nAnd its plural?")
    assert "said before" not in judge_prompt(PLURAL, "Kumquats")


def test_a_progress_line_shows_the_turns_before():
    assert question_line(CHAT) == "Name a fruit. -> Kumquat; And its plural?"
    assert question_line({**PLURAL, "input": "x"}, between=" | ") == "And its plural? | x"


@pytest.mark.parametrize(
    "command",
    [
        ["reflect", "FILE", "out.jsonl", "--backend", "scripted:script.json"],
        ["self-instruct", "--seeds", "FILE", "--out", "new", "--backend", "scripted:script.json"],
    ],
)
def test_methods_for_single_rows_refuse_conversations(tmp_path, monkeypatch, capsys, command):
    """They would rewrite, or show, a question without what it is about."""
    from ch07.commands.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.json").write_text("[]", encoding="utf-8")
    rows = [FRUIT, {"messages": _messages(2)}, FRUIT, FRUIT]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main([word.replace("FILE", "rows.jsonl") for word in command]) == 1
    said = capsys.readouterr().err
    assert f"rows.jsonl: line 2 is a conversation or has a system prompt, but {command[0]}" in said


def test_curation_keeps_conversations_whole(tmp_path):
    from ch07.commands.cli import main

    rows = [{"messages": _messages(2, i)} for i in range(8)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["curate", str(path), str(tmp_path / "new.jsonl"), "--keep", "3"]) == 0
    assert all(len(row["history"]) == 1 for row in load_entries(tmp_path / "new.jsonl"))


@pytest.mark.slow
def test_a_run_on_conversations_is_scored_exported_and_resumed(tmp_path, capsys):
    """Through everything: train two steps, score the last and every turn, export, compare."""
    from ch07.commands.cli import main
    from ch07.models.saved_run import load_run

    rows = [{"messages": random_chat(random.Random(i))} for i in range(40)]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run = str(tmp_path / "run")
    small = ["--max-steps", "2", "--batch-size", "8", "--prompt-style", "chatml"]
    assert main(["finetune", str(path), "--out", run, *small]) == 0
    assert load_run(run).conversations["turns"] == 4
    stored = load_entries(tmp_path / "run" / "responses.json")
    assert any("history" in entry for entry in stored), "what is scored again is the same"
    n = []
    for flags in ([], ["--every-turn"]):
        capsys.readouterr()
        assert main(["evaluate", run, "--json", "--max-new-tokens", "2", *flags]) == 0
        n.append(json.loads(capsys.readouterr().out)["n"])
    assert n[0] == len(stored) and n[1] == len(entries_of_turns(stored)) > n[0]
    assert main(["evaluate", run, "--losses"]) == 0
    assert main(["export", run, str(tmp_path / "out")]) == 0
    template = (tmp_path / "out" / "chat_template.jinja").read_text("utf-8")
    assert "generation" in template and "<|im_start|>" in template
    assert main(["finetune", "--like", run, "--out", str(tmp_path / "again")]) == 0
    one, two = (load_run(folder).config["facts"] for folder in (run, tmp_path / "again"))
    assert one["conversations"] == two["conversations"]


# --- a few lines, however much there is to tell ---------------------------------------------------
@pytest.mark.parametrize("form", ["messages", "history"])
def test_what_is_found_in_many_turns_is_one_line(tmp_path, form):
    def spaced(n):
        chat = [{**message, "content": message["content"] + " "} for message in _messages(n)]
        if form == "messages":
            return {"messages": chat}
        pairs = [[chat[i]["content"], chat[i + 1]["content"]] for i in range(0, 2 * n, 2)]
        (instruction, output), history = pairs[-1], pairs[:-1]
        return {"instruction": instruction, "output": output, "history": history}

    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps(spaced(n)) for n in range(2, 60)), encoding="utf-8")
    file = read_data(path)
    assert file.entries[-1]["history"][-1] == {
        "instruction": "user says 57",
        "output": "assistant says 57",
    }
    lines = [line for line in summarize_findings(file.findings) if "white space" in line]
    assert len(lines) == (1 if form == "messages" else 3)
    assert f"{form!r} removed (58: line 1, line 2" in lines[-1]


def test_an_empty_turn_is_told_with_its_number_and_as_one_fault(tmp_path):
    def chats_with(role):
        for i in range(1, 20):
            chat = _messages(20)
            chat[2 * i - (role == "user") - 1]["content"] = " "
            yield json.dumps({"messages": chat})

    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(chats_with("user")), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"turn 1: the question in 'messages' is empty \(and 18 more"
    ) as caught:
        read_data(path)
    assert str(caught.value).count("\n") == 1
    path.write_text("\n".join([*chats_with("assistant"), json.dumps(CHAT)]), encoding="utf-8")
    file = read_data(path)
    assert len(file.entries) == 1
    (line, *_) = summarize_findings(file.findings)
    assert line.startswith("left out: a turn: the answer in 'messages' is empty (19: line 1")


def test_what_is_left_out_is_told_first_and_never_hidden_by_notes():
    findings = [Finding(f"row {i}", "note", f"note {i}") for i in range(100)]
    findings.append(Finding("row 100", "dropped", "'output' is empty"))
    lines = summarize_findings(findings)
    assert lines[0] == "left out: 'output' is empty (1: row 100)"
    assert len(lines) <= 16 and lines[-1] == "86 more kinds of findings are not listed"


def test_a_store_with_a_limit_is_split_as_the_file_is(tmp_path):
    """The turns that are left out still say which conversations belong together."""
    chats = [
        [*_messages(1, start=i // 6), *_messages(4, start=100 * i), *_messages(1, start=10_000 + i)]
        for i in range(60)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats), encoding="utf-8")

    def places(data):
        from ch07.config import FinetuneOptions
        from ch07.training.run_plan import build_plan

        plan = build_plan(FinetuneOptions(data=str(data), allowed_max_length=60), lambda text: None)
        return {name: list(part.indices) for name, part in plan.rows.datasets.items()}

    write_store(path, tmp_path / "store", BOOK_STYLE, max_length=60)
    assert places(tmp_path / "store") == places(path)
