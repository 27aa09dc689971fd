"""`chat`: the words that leave it, and what doesn't end it."""

import io
from types import SimpleNamespace

import pytest

from ch07.commands.cli import main
from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.tokenizer import load_tokenizer
from ch07.generation.respond import Answer
from gpt_model import GPTModel
from instruction_dataset import BOOK_STYLE


@pytest.fixture
def talk(monkeypatch, capsys):
    """Type lines into `chat`; the instructions that were answered, and standard error."""

    def talk(*lines, code=0, conversations=None, flags=(), whole=False):
        asked = []

        def respond_streaming(model, tokenizer, entry, style, limit, on_text, **options):
            asked.append(dict(entry) if whole else entry["instruction"])
            on_text("answ")
            on_text("ered")
            return Answer("answered", "end")

        shape = {"emb_dim": 8, "n_heads": 1, "n_layers": 1, "vocab_size": 9, "context_length": 128}
        run = SimpleNamespace(
            model=GPTModel(shape),
            tokenizer=load_tokenizer(),
            style=BOOK_STYLE,
            conversations=conversations,
        )
        monkeypatch.setattr("ch07.commands.chat.load_model_to_answer", lambda *arguments: run)
        monkeypatch.setattr("ch07.commands.chat.respond_streaming", respond_streaming)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        assert main(["chat", "RUN", *flags]) == code
        out, err = capsys.readouterr()
        assert out == "answered\n" * len(asked)
        return asked, err

    return talk


@pytest.mark.parametrize("word", ["exit", "quit", "/exit", "/quit", "  exit "])
def test_exit_and_quit_leave(talk, word):
    assert talk("Name a colour.", word, "Name another.") == (["Name a colour."], "")


def test_a_sentence_that_begins_with_exit_is_an_instruction(talk):
    lines = ["Exit strategies: name one.", "quit smoking: how?", "/leave"]
    assert talk(*lines) == (lines[:2], "no command /leave; /help lists the commands\n")


def test_help_names_the_words_that_leave(talk):
    _, err = talk("/help")
    assert all(word in err for word in ("exit", "quit", "/quit", "Ctrl-D"))


def test_an_instruction_that_is_refused_does_not_end_it(talk):
    asked, err = talk("\udcff", "x" * 10**6, "Name a colour.")
    assert asked == ["Name a colour."] and err.count("\n") == 2


def test_a_fault_of_the_program_is_not_taken_for_a_refusal(talk, monkeypatch):
    monkeypatch.setattr("ch07.commands.chat._entry", lambda *fields: int("not a number"))
    asked, err = talk("Name a colour.", "Name another.", code=1)
    assert asked == [] and "ValueError: invalid literal" in err and "This is a bug in ch07" in err


# --- what is remembered ---------------------------------------------------------------------------
CHATS = {"turns": 2, "system": True}
FIRST = {"instruction": "Name a fruit.", "input": "", "output": "answered"}


def test_a_run_of_single_questions_remembers_nothing(talk):
    asked, _ = talk("Name a fruit.", "And its plural?", whole=True)
    assert [sorted(entry) for entry in asked] == [["input", "instruction"]] * 2


def test_a_run_of_conversations_reads_the_turns_so_far(talk):
    asked, err = talk("Name a fruit.", "And its plural?", conversations=CHATS, whole=True)
    assert "history" not in asked[0] and asked[1]["history"] == [FIRST]
    assert err == ""


def test_a_new_conversation_forgets(talk):
    lines = ["Name a fruit.", "/new", "And its plural?"]
    asked, err = talk(*lines, conversations=CHATS, whole=True)
    assert "history" not in asked[1] and err == "a new conversation\n"
    _, err = talk("/new")
    assert err.startswith("no command /new"), "there is no old one"


def test_a_system_prompt_is_said_once_and_kept(talk):
    lines = ["Hi.", "/system Be short. ", "Name a fruit.", "And its plural?"]
    asked, _ = talk(*lines, conversations=CHATS, whole=True)
    assert [entry.get("system") for entry in asked] == [None, "Be short.", "Be short."]
    assert [len(entry.get("history", [])) for entry in asked] == [0, 0, 1]


def test_what_no_longer_fits_is_forgotten_and_said(talk):
    """The oldest first, never the question just asked; room is kept for the answer."""
    lines = [f"Say {i} and nothing else, please." for i in range(8)]
    flags = ("--max-new-tokens", "20")
    asked, err = talk(*lines, conversations=CHATS, flags=flags, whole=True)
    for entry in asked:
        assert len(encode_chat_prompt(entry, load_tokenizer())) <= 128 - 20
    kept = [len(entry.get("history", [])) for entry in asked]
    assert kept[:3] == [0, 1, 2] and max(kept) < 7
    assert asked[-1]["history"][-1]["instruction"] == lines[-2], "the latest stay"
    assert err.count("earlier turn forgotten: the context is full]") == 8 - 1 - max(kept)


def test_the_prompt_that_is_shown_has_the_turns_before(talk):
    lines = ["/prompt", "Name a fruit.", "And its plural?"]
    _, err = talk(*lines, conversations=CHATS)
    assert "### Response:\nanswered\n\n### Instruction:\nAnd its plural?" in err


def test_help_says_whether_it_remembers(talk):
    assert "doesn't remember" in talk("/help")[1]
    _, err = talk("/help", conversations=CHATS)
    assert "it remembers earlier lines" in err and "/system" in err


@pytest.mark.parametrize("command", [["respond", "RUN", "Name a colour."], ["chat", "RUN"]])
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--top-k", "5"], "--top-k"),
        (["--top-p", "0.9", "--seed", "1"], "--top-p and --seed"),
        (["--top-k", "5", "--temperature", "0"], "--top-k"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(command, flags, named, run, capsys):
    command = [str(run) if word == "RUN" else word for word in command]
    assert main([*command, *flags]) != 0
    error = capsys.readouterr().err
    assert f"so {named} would do nothing: add --temperature" in error


def test_flags_of_sampling_are_taken_with_a_temperature(run, capsys):
    flags = ["--top-k", "5", "--top-p", "0.9", "--seed", "1", "--temperature", "0.7"]
    assert main(["respond", str(run), "Write 7 as a word.", *flags]) == 0


def test_ctrl_c_ends_the_answer_and_not_the_chat(monkeypatch, capsys):
    """And the line that it had begun."""
    asked = []

    def respond_streaming(model, tokenizer, entry, style, limit, on_text, **options):
        asked.append(entry["instruction"])
        on_text("begun")
        if len(asked) == 1:
            raise KeyboardInterrupt
        return Answer("begun", "end")

    shape = {"emb_dim": 8, "n_heads": 1, "n_layers": 1, "vocab_size": 9, "context_length": 128}
    model = GPTModel(shape)
    run = SimpleNamespace(
        model=model, tokenizer=load_tokenizer(), style=BOOK_STYLE, conversations=None
    )
    monkeypatch.setattr("ch07.commands.chat.load_model_to_answer", lambda *arguments: run)
    monkeypatch.setattr("ch07.commands.chat.respond_streaming", respond_streaming)
    monkeypatch.setattr("sys.stdin", io.StringIO("Name a colour.\nName another.\n"))
    assert main(["chat", "RUN"]) == 0
    assert asked == ["Name a colour.", "Name another."]
    assert capsys.readouterr() == ("begun\nbegun\n", "[interrupted]\n")


class EndlessLine(io.StringIO):
    """Standard input whose first line is longer than the memory."""

    def __init__(self, n_reads, rest):
        super().__init__(rest)
        self.n_left = n_reads
        self.largest = 0

    def readline(self, size=-1):
        self.largest = max(self.largest, 1 << 62 if size < 0 else size)
        if self.n_left == 0:
            return super().readline(size)
        self.n_left -= 1
        return "a" * size


def test_a_line_that_is_too_long_is_skipped_in_pieces(monkeypatch, capsys):
    asked = []

    def respond_streaming(model, tokenizer, entry, style, limit, on_text, **options):
        asked.append((entry["instruction"], entry.get("system")))
        return Answer("Yes.", "end")

    shape = {"emb_dim": 8, "n_heads": 1, "n_layers": 1, "vocab_size": 9, "context_length": 128}
    run = SimpleNamespace(
        model=GPTModel(shape), tokenizer=load_tokenizer(), style=BOOK_STYLE, conversations={}
    )
    monkeypatch.setattr("ch07.commands.chat.load_model_to_answer", lambda *arguments: run)
    monkeypatch.setattr("ch07.commands.chat.respond_streaming", respond_streaming)
    stdin = EndlessLine(50, "the end of it\nHi.\n/system " + "b" * 99_999 + "\nHo.")
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["chat", "RUN"]) == 0
    assert [instruction for instruction, _ in asked] == ["Hi.", "Ho."]
    assert stdin.largest <= 100_001
    said = capsys.readouterr().err.splitlines()
    assert said == ["more than 100,000 characters"] * 2
