"""`chat`: the words that leave it, and what doesn't end it."""

import io
from types import SimpleNamespace

import pytest

from ch07.commands.cli import main
from ch07.generation.respond import Answer
from gpt_model import GPTModel


@pytest.fixture
def talk(monkeypatch, capsys):
    """Type lines into `chat`; the instructions that were answered, and standard error."""

    def talk(*lines, code=0):
        asked = []

        def respond(model, tokenizer, entries, *rest, **options):
            asked.extend(entry["instruction"] for entry in entries)
            return [Answer("answered", "end")]

        model = GPTModel({"emb_dim": 8, "n_heads": 1, "n_layers": 1, "vocab_size": 9})
        run = SimpleNamespace(model=model, tokenizer=None, style=None)
        monkeypatch.setattr("ch07.commands.chat.load_run_to_answer", lambda *arguments: run)
        monkeypatch.setattr("ch07.commands.chat.respond", respond)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        assert main(["chat", "RUN"]) == code
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
