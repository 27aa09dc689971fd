"""What is said of a run's speed and of the time left follows from its records alone."""

import math

from ch07.training.progress import progress_line, seconds_left, tokens_per_second


def record(step, **values):
    usual = {"tokens_seen": 100 * step, "seconds": 2.0 * step, "train_loss": 1.0, "val_loss": 2.0}
    return {"step": step, **usual, **values}


def test_the_time_left_is_that_of_the_steps_left():
    assert seconds_left([], 10) is None
    assert seconds_left([record(0)], 10) is None
    assert seconds_left([record(0), record(4)], 10) == 12.0
    assert seconds_left([record(10)], 10) == 0


def test_the_speed_is_that_since_the_last_evaluation():
    history = [record(0), record(2), record(4, seconds=5.0), record(5, seconds=5.0)]
    assert tokens_per_second(history) == [None, 50.0, 200.0, None], "no time has passed at the last"
    assert tokens_per_second([]) == []
    pairs = [record(0, tokens_seen=None), record(1, tokens_seen=None)]
    assert tokens_per_second(pairs) == [None, None]


def test_a_line_says_how_long_it_will_take_only_where_no_bar_does():
    history = [record(0), record(5)]
    line = progress_line(history, 10, with_time=False)
    assert line == "step 5 of 10: training loss 1.000, validation loss 2.000"
    assert progress_line(history, 10, with_time=True) == line + ", about 10 seconds left"
    assert progress_line([record(10)], 10, with_time=True).endswith("2.000"), "nothing is left"
    assert math.isclose(seconds_left(history, 10), 10)
