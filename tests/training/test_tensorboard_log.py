"""Event files, read back by TensorBoard's own reader: the metrics, each step once."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ch07.runs import run_folder
from ch07.runs.samples import Sample
from ch07.training.tensorboard_log import TensorBoardLog, as_markdown, import_tensorboard
from ch07.utils.dependencies import MissingPackage

HISTORY = [
    {
        "step": step, "epoch": step / 10, "tokens_seen": 100 * step, "lr": 0.1 / (step + 1),
        "seconds": 0.5 * step, "train_loss": 10.8 / (step + 1), "val_loss": 11.1 / (step + 1),
    }
    for step in range(0, 50, 5)
]  # fmt: skip


def sample(step):
    return Sample(step=step, question="Q?", right="A", answer=f"answer {step}", stopped="end")


SAMPLES = [sample(record["step"]) for record in HISTORY]


def read_back(folder):
    all_of_them = {"tensors": 0, "scalars": 0}
    events = EventAccumulator(str(folder / run_folder.EVENTS), all_of_them)
    events.Reload()
    return events


def points(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


def expected(field, history=HISTORY):
    return [(record["step"], float(np.float32(record[field]))) for record in history]


def check(folder, history=HISTORY):
    """All that the files say is what the history says."""
    events = read_back(folder)
    assert points(events, "loss/training") == expected("train_loss", history)
    assert points(events, "loss/validation") == expected("val_loss", history)
    assert points(events, "learning_rate") == expected("lr", history)
    assert points(events, "tokens_per_second") == [(r["step"], 200.0) for r in history[1:]]
    texts = events.Tensors("answer/text_summary")
    assert [event.step for event in texts] == [record["step"] for record in history]
    for event in texts:
        assert f"answer {event.step}" in event.tensor_proto.string_val[0].decode()


def write(folder, first, last):
    """A run that starts with `first` evaluations behind it and is lost after `last`."""
    log = TensorBoardLog(folder, HISTORY[:first], SAMPLES[:first])
    for n in range(first + 1, last + 1):
        log.add(HISTORY[:n], SAMPLES[n - 1])
    return log


def test_the_scalars_are_the_metrics(tmp_path):
    write(tmp_path, 0, len(HISTORY)).close()
    check(tmp_path)


def test_each_evaluation_is_on_the_disk_before_the_file_is_closed(tmp_path):
    log = write(tmp_path, 0, 6)
    check(tmp_path, HISTORY[:6])
    log.close()


@pytest.mark.parametrize("counted", [0, 3, 6], ids="{} evaluations counted".format)
def test_a_resumed_run_repeats_no_step_and_lacks_none(tmp_path, counted):
    """Six evaluations were logged when it was lost; its checkpoint counts fewer."""
    write(tmp_path, 0, 6).close()
    write(tmp_path, counted, len(HISTORY)).close()
    check(tmp_path)
    assert len(list((tmp_path / run_folder.EVENTS).iterdir())) == 1


def test_losses_are_there_once_even_if_the_old_file_was_not_deleted(tmp_path, monkeypatch):
    """As after a kill between writing the new file and deleting the old one."""
    write(tmp_path, 0, 6).close()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path: None)
        write(tmp_path, 3, len(HISTORY)).close()
    assert len(list((tmp_path / run_folder.EVENTS).iterdir())) == 2
    assert points(read_back(tmp_path), "loss/training") == expected("train_loss")


def test_a_log_that_is_first_asked_for_later_has_the_past_too(tmp_path):
    write(tmp_path, 4, len(HISTORY)).close()
    check(tmp_path)


def test_the_time_between_two_points_is_training_time(tmp_path):
    write(tmp_path, 4, len(HISTORY)).close()
    times = [event.wall_time for event in read_back(tmp_path).Scalars("loss/training")]
    assert np.diff(times) == pytest.approx(np.full(len(HISTORY) - 1, 2.5), abs=1e-3)


def test_a_run_on_pairs_logs_its_margins(tmp_path):
    values = {"train_margin": 0.5, "val_margin": None, "train_accuracy": 1.0, "tokens_seen": None}
    log = TensorBoardLog(tmp_path, [], [])
    for n in range(1, 4):
        log.add([{**record, **values} for record in HISTORY[:n]], None)
    log.close()
    events = read_back(tmp_path)
    assert points(events, "margin/training") == [(0, 0.5), (5, 0.5), (10, 0.5)]
    assert not {"margin/validation", "tokens_per_second"} & set(events.Tags()["scalars"])
    assert events.Tags()["tensors"] == []


def test_an_answer_is_no_markdown():
    hostile = Sample(
        step=1, question="a\n# b", right="", answer="<img src=x>\n\n* c\r\nd\re", stopped="end"
    )
    text = as_markdown(hostile)
    assert all(line.startswith("    ") for line in text.splitlines())
    assert [line[4:] for line in text.splitlines()][1:4] == ["# b", "answer:   <img src=x>", ""]


def test_a_missing_package_is_named_with_its_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        MissingPackage, match=r"^writing event .* pip install tensorboard==2\.21\.0$"
    ):
        import_tensorboard()
