"""`explore`: the collate explorer as one file."""

import json

import pytest

from ch07.commands.explore import explore
from ch07.utils.errors import DataError, OptionError

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(5)]


def block(text, name):
    """The data of that name in a page."""
    start = text.split(f'<script type="application/json" id="{name}">')[1]
    return json.loads(start.split("</script>")[0])


def test_writes_a_page_with_the_first_rows_of_a_file(tmp_path, capsys):
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(ROWS), encoding="utf-8")
    out = tmp_path / "page.html"
    assert explore(str(out), data=str(data), rows=2, language="zh-CN") == 0
    text = out.read_text(encoding="utf-8")
    assert block(text, "entries") == ROWS[:2]
    assert block(text, "first-language") == "zh-CN"
    assert block(text, "training-rows") == len(ROWS)
    assert "page.html" in capsys.readouterr().out


def test_rows_that_can_not_be_chosen_are_counted(tmp_path, capsys):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    long = {**ROWS[0], "output": "x" * 2001}
    data = tmp_path / "rows.json"
    data.write_text(json.dumps([*ROWS, long, {"messages": turns * 2}]), encoding="utf-8")
    out = tmp_path / "page.html"
    assert explore(str(out), data=str(data)) == 0
    assert block(out.read_text(encoding="utf-8"), "entries") == ROWS
    said = capsys.readouterr().err
    assert "data: 1 conversation left out\n" in said
    assert "data: 1 row can't be chosen in the page: longer than 2,000 characters\n" in said


def test_refuses_a_file_that_exists_and_rows_that_it_cannot_show(tmp_path):
    out = tmp_path / "page.html"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(OptionError, match="exists"):
        explore(str(out))
    assert out.read_text(encoding="utf-8") == "mine"
    data = tmp_path / "bad.json"
    data.write_text('[{"instruction": 3, "output": "x"}]', encoding="utf-8")
    with pytest.raises(DataError):
        explore(str(tmp_path / "new.html"), data=str(data))
    assert not (tmp_path / "new.html").exists()


def test_is_a_command(run_command, tmp_path):
    out = tmp_path / "page.html"
    done = run_command("-m", "ch07", "explore", "--out", out)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size < 2_000_000
    assert run_command("-m", "ch07", "explore").returncode == 2
    wrong = run_command("-m", "ch07", "explore", "--out", tmp_path / "b.html", "--language", "xx")
    assert wrong.returncode == 2 and "zh-CN" in wrong.stderr
