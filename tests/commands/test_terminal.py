"""What a stranger's text sends to a terminal: nothing that a terminal would obey.

Errors pass through `cli`, as test_cli.py holds. `respond` writes an answer raw where standard
output is no terminal, by design: a program reads it then. JSON has escapes of its own.
"""

import io
import json
import re
import shutil
import sys

import pytest
from strangers import a_run, altered

from ch07.commands.cli import main
from ch07.generation.respond import Answer
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json, write_json

NASTY = "\x1b[31mred\x1b]0;title\x07\x08\x7f\x9b2J\u202eback\r\x00end"


def harmless(text):
    """Whether a terminal would only print it; the progress bar goes back to its line's start."""
    text = re.sub(r"\r *\r|\r(?=training: )", "", text)  # the bar is cleared, or drawn again
    odd = {letter for letter in text if not letter.isprintable()} - {"\n"}
    assert not odd, (odd, text)
    return True


def nasty_rows():
    rows = [
        {"instruction": f"{i} {NASTY}", "input": NASTY, "output": NASTY, "family": NASTY + str(i)}
        for i in range(20)
    ]
    rows[0] |= {NASTY: 0, "input": "n/a"}
    return [*rows, rows[1], rows[2] | {"output": "other"}, rows[3] | {"output": ""}]


def answers(model, tokenizer, entries, *rest, **options):
    return [Answer(NASTY + "\n" + NASTY, "length")] * len(entries)


def streamed_answer(model, tokenizer, entry, style, limit, on_text, **options):
    (answer,) = answers(model, tokenizer, [entry])
    for piece in (answer.text[:20], answer.text[20:]):
        on_text(piece)
    return answer


@pytest.fixture(autouse=True)
def nasty_answers(monkeypatch):
    import ch07.commands.chat
    import ch07.commands.evaluate
    import ch07.evaluation.held_out_answers

    monkeypatch.setattr(ch07.commands.chat, "respond_streaming", streamed_answer)
    for module in (ch07.commands.evaluate, ch07.evaluation.held_out_answers):
        monkeypatch.setattr(module, "respond", answers)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data file, and a run that a stranger made, both with nasty names."""
    place = tmp_path_factory.mktemp("terminal")
    write_json(place / "\x1b[31mdata\x9b.json", nasty_rows())
    style = {
        "with_input": f"{NASTY}{{instruction}}{{input}}:\n",
        "no_input": "{instruction}" + NASTY,
    }
    a_run(place / "start")
    a_run(place / "run", prompt_style=style)
    return place


@pytest.fixture(scope="module")
def data(place):
    return str(next(place.glob("*.json")))


@pytest.fixture
def ends(capsys):
    """Run a command; its exit code, and what it said, which must be harmless."""

    def run(*command):
        code = main([str(word) for word in command])
        said = capsys.readouterr()
        assert harmless(said.out) and harmless(said.err)
        return code, said.out + said.err

    return run


def trained(place, data, folder, *more):
    """A run of two steps."""
    start = ["finetune", "--data", data, "--model", place / "start", "--out", folder]
    return [*start, "--max-steps", "2", "--batch-size", "4", "--eval-freq", "1", *more]


def test_a_run_its_losses_and_its_comparison(place, data, ends, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    code, said = ends(*trained(place, data, one))
    assert code == 0 and r"\x1b[31mred" in said
    shutil.copytree(one, two)
    altered(two, facts={"versions": {NASTY: NASTY}})
    assert ends("evaluate", two, "--losses")[0] == 0
    altered(two, options={NASTY: NASTY, "data": NASTY}, settings={NASTY: 1}, facts={NASTY: NASTY})
    rows = read_json(two / run_folder.RESPONSES)
    write_json(two / run_folder.RESPONSES, [row | {"instruction": NASTY + "x"} for row in rows])
    code, said = ends("compare", one, two)
    assert code == 1 and r"\x1b[31mred" in said
    assert ends("compare", one, two, "--json")[0] == 1
    for value in (NASTY, [NASTY], None):
        write_json(two / run_folder.METRICS, {"step": value})
        assert ends("compare", one, two)[0] == 1
        record = {"step": 1, "train_loss": NASTY}
        (two / run_folder.METRICS).write_text(json.dumps(record), encoding="utf-8")
        assert ends("compare", one, two)[0] == ends("evaluate", two, "--losses")[0] == 1


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_scores(place, data, ends, more):
    code, said = ends("evaluate", place / "run", "--data", data, *more)
    assert code == 0 and "red" in said


@pytest.mark.parametrize("more", [[], ["--sentences"], ["--json"], ["--png"]])
def test_a_grid(place, data, ends, more, tmp_path):
    more = [*more, tmp_path / "\x1b[31mp.png"] if more == ["--png"] else more
    assert ends("grid", data, "--run", place / "run", "--rows", "2", *more)[0] == 0


def typed(monkeypatch, text, terminal=True):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)


def test_answers_on_a_terminal_and_to_a_program(place, ends, monkeypatch, capsys):
    typed(monkeypatch, "")
    assert ends("respond", place / "run", "Name a colour.")[0] == 0
    typed(monkeypatch, "", terminal=False)
    assert main(["respond", str(place / "run"), "Name a colour."]) == 0
    assert NASTY in capsys.readouterr().out, "a program gets what the model wrote"


def test_a_talk(place, ends, monkeypatch):
    typed(monkeypatch, f"/prompt\nName a colour. | {NASTY}\n/{NASTY}\n{'long ' * 300}\n")
    code, said = ends("chat", place / "run")
    assert code == 0 and said.count(r"\x1b[31mred") >= 4


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_doctor(place, data, ends, more, tmp_path):
    plain = shutil.copy(data, tmp_path / "data.json")
    code, said = ends("doctor", plain, "--model", place / "start", *more)
    assert code == 0 and "red" in said


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_doctor_and_a_file_name(place, data, ends, more):
    assert ends("doctor", data, "--model", place / "start", *more)[0] == 0


def test_a_note_on_a_strangers_versions(capsys):
    from ch07.training.resume import report_version_changes
    from ch07.utils.console import log_rank0

    report_version_changes({"facts": {"versions": {NASTY: 1}}}, {"facts": {}}, log_rank0)
    assert harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    "body",
    [f"    print({NASTY!r})\n    raise ValueError({NASTY!r})\n", "    return '\x1b[31m' + )\n"],
    ids=["raised", "no Python"],
)
def test_an_exercise(tmp_path, ends, body):
    path = tmp_path / "mine.py"
    path.write_text(f"def format_input(entry):\n{body}", encoding="utf-8")
    assert ends("check", path)[0] == 1


def test_what_no_command_could_read(place, ends, tmp_path):
    for content in (NASTY, json.dumps([{NASTY: NASTY}]), f'{{"{NASTY}": []}}'):
        path = tmp_path / "\x1b[31m.json"
        path.write_text(content, encoding="utf-8")
        for command in (["finetune", "--data"], ["evaluate", place / "run", "--data"], ["grid"]):
            assert ends(*command, path)[0] == 1
        assert ends("doctor", path)[0] == 1
    assert ends("compare", tmp_path / "\x1b[31m", tmp_path)[0] == 1
