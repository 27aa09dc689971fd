"""Several processes compute what one computes: losses, weights, checkpoints; and one may die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from ch07.commands.cli import main
from ch07.utils import distributed

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4  # of a loss
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What each job of many_ranks.py wrote, by name."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "tests/many_ranks.py", folder]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=120)
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")
    }


def assert_alike(one, other, learned=100 * TOLERANCE):
    assert one["tokens"] == other["tokens"]
    assert [row[0] for row in one["losses"]] == [row[0] for row in other["losses"]]
    for a, b in zip(one["losses"], other["losses"], strict=True):
        assert a[1:] == pytest.approx(b[1:], abs=TOLERANCE)
    assert one["losses"][-1][1] < one["losses"][0][1] - learned
    # softmax sees no difference if all keys are moved, so their bias learns from rounding alone
    a, b = ({n: w for n, w in r["weights"].items() if "W_key.bias" not in n} for r in (one, other))
    assert a == pytest.approx(b, rel=1e-3)


@pytest.mark.parametrize("size", [2, 4])
def test_any_number_of_ranks_computes_the_same_losses(done, size):
    """With batches of which a rank gets no row, two of them to a step, and plain SGD."""
    assert done["codes"][f"copies{size}"] == [0] * size
    assert_alike(done[f"copies{size}"], done["copies1"])


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_two_ranks_train_an_adapter_as_one_does(done, method):
    assert done["codes"][f"{method}2"] == [0, 0]
    assert_alike(done[f"{method}2"], done[f"{method}1"], learned=10 * TOLERANCE)


@pytest.mark.parametrize(
    ("name", "alone"),
    [("shared2", "alone"), ("shared_parts", "alone"), ("shared_prefix", "prefix1")],
)
def test_ranks_that_read_a_shared_beginning_once_compute_the_same(done, name, alone):
    assert done["codes"][name] == [0, 0]
    assert_alike(done[name], done[alone], learned=10 * TOLERANCE)


@pytest.mark.parametrize("name", ["copies_then_parts", "parts_then_parts", "parts_then_alone"])
def test_any_number_of_ranks_goes_on_from_any_checkpoint(done, name):
    assert set(done["codes"][name]) == {0}
    assert_alike(done[name], done["alone"])


def test_muon_computes_the_same_on_parts(done):
    assert_alike(done["muon_parts"], done["muon"])


def test_a_sharded_model_is_held_in_parts(done):
    whole, half, quarter = (
        done[name]["parts"] for name in ("alone", "half_parts", "parts_then_parts")
    )
    assert whole is None and half == pytest.approx(2 * quarter, rel=0.01)


def test_what_ranks_tell_each_other(done):
    for seen in done["talk3"]:
        assert (seen["first"], seen["size"]) == (0, 3)
        assert (seen["total"], seen["any"]) == ([6, 1.5, 6.0], [True, False])
        assert seen["joined"] == [0, 10, 20, 30, 40, 50, 60]


def test_one_rank_tells_the_error_and_all_end(done):
    raised, ended = 20, 11
    assert done["codes"]["fail3"] == [ended, raised, ended]


def test_a_process_alone_is_a_group_of_one():
    with distributed.process_group():
        assert (
            distributed.get_rank(),
            distributed.get_world_size(),
            distributed.local_world_size(),
        ) == (0, 1, 1)
        assert (
            distributed.all_reduce_sum(3) == 3
            and distributed.any_rank(True)
            and not distributed.any_rank(False)
        )
        assert distributed.items_of_rank([1, 2]) == distributed.all_gather_list([1, 2]) == [1, 2]
        assert (
            distributed.run_on_rank0(lambda: "a")
            == distributed.all_ranks_or_raise(lambda: "a")
            == "a"
        )
        assert distributed.seed_for_rank(5) == 5
        with pytest.raises(ZeroDivisionError):
            distributed.all_ranks_or_raise(lambda: 1 / 0)


# --- the command, under torchrun ----------------------------------------------------------------


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment(), **pipes)


def options(data, folder):
    """A dozen steps, with a checkpoint after some of them."""
    given = ["--data", data, "--out", folder, "--batch-size", 24, "--epochs", 2, "--seed", 1]
    given += ["--eval-freq", 5, "--lr", 1e-4, "--dtype", "float32", "--optimizer", "adamw"]
    given += ["--checkpoint-minutes", 0.01]
    return list(map(str, given))


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["val_loss"] for line in lines]


def test_a_rank_that_dies_is_restarted_and_nothing_changes(few_answers, tmp_path):
    many, one = tmp_path / "many", tmp_path / "one"
    sharded = ("--shard", *options(few_answers, many))
    command = ("--max-restarts", 1, "-m", "ch07", "finetune", *sharded)
    running = torchrun(*command)
    try:
        while not list(many.glob("checkpoint/step-*")):
            assert running.poll() is None, running.stdout.read()
            time.sleep(0.05)
        last = max(psutil.Process(running.pid).children(), key=lambda child: child.pid)
        os.kill(last.pid, signal.SIGKILL)
        said, _ = running.communicate(timeout=100)
    finally:
        running.kill()
    assert running.returncode == 0, said
    assert "rank 0 of 2 stopped, since another rank has ended or doesn't answer" in said
    assert "is complete; resume with:\n  torchrun --nproc-per-node 2 -m ch07" in said
    assert "resuming from step" in said
    assert main(["finetune", *options(few_answers, one)]) == 0
    assert losses(many) == pytest.approx(losses(one), abs=TOLERANCE)
    answers = [
        json.loads((run / "responses.json").read_text(encoding="utf-8")) for run in (many, one)
    ]
    assert [row["instruction"] for row in answers[0]] == [row["instruction"] for row in answers[1]]


def test_a_restart_does_not_take_over_another_run(tmp_path, few_answers):
    """The first refusal counts as a failure to torchrun, which then tries again."""
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "config.json").write_text("{}", encoding="utf-8")
    command = ["--max-restarts", 1, "-m", "ch07", "finetune", *options(few_answers, taken)]
    running = torchrun(*command)
    said, _ = running.communicate(timeout=100)
    assert running.returncode == 1 and said.count("taken holds another run") == 2
    assert [path.name for path in taken.iterdir()] == ["config.json"]


def test_ranks_with_different_data_do_not_train(few_answers, tmp_path):
    """As when each machine reads a file of its own."""
    own = tmp_path / "own.py"
    own.write_text(
        "import os, sys\nfrom ch07.commands.cli import main\n"
        "data, one_less, out = sys.argv[1:]\n"
        "given = data if os.environ['RANK'] == '0' else one_less\n"
        "sys.exit(main(['finetune', '--data', given, '--out', out]))\n",
        encoding="utf-8",
    )
    less = tmp_path / "less.json"
    rows = json.loads(few_answers.read_text(encoding="utf-8"))
    less.write_text(json.dumps(rows[1:]), encoding="utf-8")
    said, _ = torchrun(own, few_answers, less, tmp_path / "out").communicate(timeout=100)
    assert said.count("rank 1 differs from rank 0 in ") == 1 and "data_sha256" in said
    assert "This is a bug" not in said
    assert not (tmp_path / "out").exists()


def test_restarts_need_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert main(["finetune"]) == 2
    assert "needs --out RUN" in capsys.readouterr().err


def test_a_peer_that_never_comes_up_is_no_bug(monkeypatch):
    """Connecting fails like everything after it: with a message for people."""
    from ch07.utils import distributed
    from ch07.utils.errors import RunStoppedError

    def refused(url):
        raise torch.distributed.DistNetworkError("connection refused")

    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(distributed, "rendezvous", refused)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    with pytest.raises(RunStoppedError, match="doesn't answer"), distributed.process_group():
        pass
