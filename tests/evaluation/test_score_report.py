"""Score tables and answers as they are printed to a terminal."""

import pytest

from ch07.evaluation.metrics import score_answers
from ch07.evaluation.score_report import print_before_after
from ch07.generation.respond import Answer
from ch07.utils.console import terminal_line


def test_control_characters_are_escaped():
    assert terminal_line("a\x1b[31mred\nb\x07") == r"a\x1b[31mred\nb\x07"
    assert terminal_line("naïve 猫") == "naïve 猫"
    assert len(terminal_line("x" * 1000)) == 88 and terminal_line("x" * 1000).endswith(" ...")
    assert len(terminal_line("x" * 1000, width=None)) == 1000


@pytest.mark.parametrize("empty", ["", " ", "\n\n"])
def test_an_empty_answer_is_printed_in_words(capsys, empty):
    answers = [Answer(empty, "end"), Answer("b", "end")]
    print_before_after([{"instruction": "a", "output": "b"}], answers[:1], answers[1:])
    print_before_after([{"instruction": "a", "output": "b"}], answers[1:], answers[:1])
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if line.startswith(("  before", "  after"))] == [
        "before  [an empty answer]", "after   b", "before  b", "after   [an empty answer]"
    ]  # fmt: skip


def test_the_table_has_one_line_per_family_and_one_for_all(capsys):
    from ch07.evaluation.score_report import print_scores

    entries = [{"output": "a", "family": "one"}, {"output": "b", "family": "another"}]
    print_scores(score_answers(entries, ["a", "x"], [True, True]))
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines] == ["held-out", "another", "one", "all", "token_f1"]
    assert "50.0 %" in lines[3]
    assert len({line.index(" %") for line in lines[1:4]}) == 1, "columns are aligned"
    print_scores(score_answers([{"output": "a"}], ["a"], [True]))
    header, row = capsys.readouterr().out.strip("\n").splitlines()[:2]
    assert header.index("n  exact") == row.index("1  ")
    print_scores(None)
    assert capsys.readouterr().out == ""
