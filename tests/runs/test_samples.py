"""samples.jsonl: what is written is read back, and nothing that a run can't have written."""

import json

import pytest

from ch07.runs import run_folder
from ch07.runs.run_lock import run_lock
from ch07.runs.samples import Sample, read_samples, save_samples
from ch07.utils.errors import RunFolderError


def sample(step, answer="Tuesday"):
    return Sample(
        step=step, question="After Monday?", right="Tuesday", answer=answer, stopped="end"
    )


def test_what_is_written_is_read_back(tmp_path):
    assert read_samples(tmp_path) == []
    samples = [sample(0, ""), sample(5, "\n \u2028 \x1b[31m 你好 🙂 </script>"), sample(6)]
    save_samples(tmp_path, samples)
    assert read_samples(tmp_path) == samples
    assert (tmp_path / run_folder.SAMPLES).read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    "lines",
    [
        ["{"],
        ["[]"],
        ["null"],
        [json.dumps({**sample(1), "more": 1})],
        [json.dumps({**sample(1), "answer": 3})],
        [json.dumps({**sample(1), "answer": "\ud800"})],
        [json.dumps({**sample(1), "step": "1"})],
        [json.dumps({**sample(1), "step": True})],
        [json.dumps(sample(2)), json.dumps(sample(2))],
        ["[" * 100_000],
    ],
    ids=lambda lines: lines[-1][:40],
)
def test_what_no_run_wrote_is_refused(tmp_path, lines):
    text = "".join(f"{line}\n" for line in lines)
    (tmp_path / run_folder.SAMPLES).write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"samples\.jsonl can't be read"):
        read_samples(tmp_path)


def test_half_a_line_is_refused(tmp_path):
    save_samples(tmp_path, [sample(1), sample(2)])
    path = tmp_path / run_folder.SAMPLES
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunFolderError, match="line 2 is not complete"):
        read_samples(tmp_path)


@pytest.mark.parametrize("name", [run_folder.SAMPLES, run_folder.WATCH])
def test_what_a_killed_run_left_half_written_is_deleted(tmp_path, name):
    left = tmp_path / f".{name}.123.new"
    left.write_text("half", encoding="utf-8")
    with run_lock(tmp_path):
        assert not left.exists()
