"""The speedrun: what is counted, when a threshold is reached, and what an entry may not do."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import speedrun
from benchmarks.speedrun import (
    COSTS,
    LOGIT_OPERATIONS,
    UPDATE_OPERATIONS,
    Evaluation,
    OperationCounter,
    check_model,
    check_rows,
    cost_rows,
    first_reaching,
    flags_of,
    markdown_row,
    measure,
    median_cost,
    read_baseline,
    update_operations,
)
from ch07.config import FinetuneOptions
from ch07.data.entries import load_entries
from ch07.data.splits import split_entries
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.training.optimizers import choose_optimizer
from ch07.training.shared_beginning import sum_loss_with_shared_beginning
from ch07.utils.errors import DataError
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import sum_loss

TINY = GPTConfig(vocab_size=61, context_length=40, emb_dim=8, n_heads=2, n_layers=3)


def evaluation(steps, share):
    return Evaluation(steps, 10 * steps, 1000 * steps, steps / 2, share)


def run(*shares):
    return [evaluation(50 * i, share) for i, share in enumerate(shares, start=1)]


# --- operations -----------------------------------------------------------------------------------
def batch_with_shared_beginning():
    inputs = torch.randint(0, TINY.vocab_size, (6, 20))
    inputs[:, :13] = inputs[0, :13]
    targets = torch.randint(0, TINY.vocab_size, (6, 20))
    targets[:, :14] = -100
    return inputs, targets


@pytest.mark.parametrize("batch_loss", [sum_loss, sum_loss_with_shared_beginning])
def test_operations_are_those_that_pytorch_counts(batch_loss):
    """All but the attention of a CPU, whose one fused operation PyTorch's counter doesn't know."""
    model = GPTModel(TINY)
    counter = OperationCounter(model, TINY)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as peer:
        loss, n_targets = batch_loss(*batch_with_shared_beginning(), model, "cpu")
        loss.backward()
    of_logits = LOGIT_OPERATIONS * n_targets * TINY.vocab_size
    assert counter.total == peer.get_total_flops() + of_logits


def test_an_evaluation_is_not_counted():
    model = GPTModel(TINY)
    counter = OperationCounter(model, TINY)
    with torch.no_grad():
        sum_loss(*batch_with_shared_beginning(), model, "cpu")
    assert counter.total == 0


def test_a_shared_beginning_that_is_read_once_is_counted_once():
    totals = []
    for batch_loss in (sum_loss_with_shared_beginning, sum_loss):
        model = GPTModel(TINY)
        counter = OperationCounter(model, TINY)
        batch_loss(*batch_with_shared_beginning(), model, "cpu")[0].backward()
        totals.append(counter.total)
    assert totals[0] < totals[1]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_updates_matrix_products_are_those_that_pytorch_counts(name):
    model = GPTModel(TINY)
    optimizer = choose_optimizer(name, model, 1e-3, 0.1)
    sum_loss(*batch_with_shared_beginning(), model, "cpu")[0].backward()
    with FlopCounterMode(display=False) as peer:
        optimizer.step()
    n_weights = sum(weight.numel() for weight in model.parameters())
    expected = peer.get_total_flops() + UPDATE_OPERATIONS * n_weights
    assert update_operations(model, name) == expected


# --- the first evaluation that is good enough -----------------------------------------------------
def test_the_first_evaluation_at_or_above_the_threshold_counts():
    shares = run(0.5, 0.95, 0.94, 0.99)
    assert first_reaching(shares, 0.95) == shares[1]
    assert first_reaching(shares, 0.97) == shares[3]
    assert first_reaching(shares, 0.995) is None
    assert first_reaching([], 0.95) is None


def test_the_median_run_decides():
    runs = [run(0.95), run(0.1, 0.1, 0.96), run(0.1, 0.95)]
    assert median_cost(runs, 0.95, "steps") == 100
    assert median_cost(runs, 0.95, "seconds") == 50


def test_a_run_that_never_gets_there_is_the_most_expensive():
    runs = [run(0.1, 0.2), run(0.95), run(0.1, 0.1, 0.95)]
    assert median_cost(runs, 0.95, "steps") == 150
    assert median_cost([run(0.1), run(0.2), run(0.95)], 0.95, "steps") is None


def test_no_runs_have_no_median():
    with pytest.raises(ValueError, match="no median"):
        median_cost([], 0.95, "steps")


# --- rows -----------------------------------------------------------------------------------------
def test_rows_have_the_benchmarks_format_and_the_ratio_to_the_baseline():
    baseline = {"steps to 95 %": 400, "operations to 95 %": 300_000}
    rows = cost_rows([run(0.1, 0.95), run(0.1, 0.1, 0.96), run(0.95, 0.98)], baseline)
    keys = {"what", "ours", "peer", "peer_name", "ratio", "floor_share"}
    assert all(set(found) == keys for found in rows)
    by_name = {found["what"]: found for found in rows}
    assert by_name["steps to 95 %"]["ours"] == 100
    assert by_name["steps to 95 %"]["ratio"] == 4
    assert by_name["operations to 95 %"]["ratio"] == 3
    assert by_name["tokens to 95 %"]["ratio"] is None
    assert by_name["share of runs that reach 95 %"]["ours"] == 1


def test_a_threshold_that_is_not_reached_has_no_cost_and_is_named():
    runs = [run(0.95, 0.96), run(0.95, 0.96), run(0.98)]
    names = [found["what"] for found in cost_rows(runs, {})]
    assert [f"{cost} to 95 %" in names for cost in COSTS] == [True] * len(COSTS)
    assert [f"{cost} to 97 %" in names for cost in COSTS] == [False] * len(COSTS)
    (reached,) = [found for found in cost_rows(runs, {}) if found["what"].endswith("reach 97 %")]
    assert reached["ours"] == pytest.approx(1 / 3)
    assert "50 / not reached" in markdown_row("an entry", runs)


def test_the_markdown_row_has_steps_operations_and_seconds():
    first = Evaluation(1450, 1, 30_100_000_000_000, 99.6, 0.96)
    runs = [[first, Evaluation(1500, 1, 2_250_000_000_000, 60.4, 0.97)]]
    row = markdown_row("an entry", runs)
    assert row == "| an entry | 1,450 / 1,500 | 30.1 / 2.25 | 100 / 60 |"


def test_a_row_without_a_name_is_called_by_its_flags():
    assert flags_of({"lr": 0.01, "max_steps": 750}) == "`--lr 0.01 --max-steps 750`"
    assert flags_of({}) == "default settings"


def test_the_baseline_is_a_file_that_the_benchmark_wrote(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(cost_rows([run(0.98)], {})), encoding="utf-8")
    baseline = read_baseline(str(path))
    assert baseline["steps to 97 %"] == 50
    again = {found["what"]: found["ratio"] for found in cost_rows([run(0.98)], baseline)}
    assert again["steps to 97 %"] == 1
    assert read_baseline(None) == {}


# --- the rules ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def splits():
    return split_entries(load_entries(DATA_FILE))


def test_the_default_runs_rows_and_model_pass(splits):
    check_rows(splits["train"], splits["test"])
    check_model(GPTConfig(**MODEL_SIZES["gpt2-tiny"]))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_leaked_prompt_is_found_whatever_its_case_and_spaces(splits, split):
    row = splits[split][0]
    leaked = row | {"instruction": f" {row['instruction'].upper()} ", "output": "another answer"}
    with pytest.raises(DataError, match=f"1 of the {split} prompts"):
        check_rows([*splits["train"], leaked], splits["test"])


def test_other_rows_are_refused(splits):
    with pytest.raises(DataError, match="training rows"):
        check_rows(splits["train"][1:], splits["test"])
    with pytest.raises(DataError, match="held-out rows"):
        check_rows(splits["train"], splits["test"][1:])


def test_another_model_is_refused():
    with pytest.raises(DataError, match="not gpt2-tiny"):
        check_model(TINY)


def test_another_tokenizer_is_refused(monkeypatch):
    other = type("Tokenizer", (), {"name": "other", "n_vocab": 50257})
    monkeypatch.setattr(speedrun, "load_tokenizer", other)
    with pytest.raises(DataError, match="not GPT-2's"):
        check_model(GPTConfig(**MODEL_SIZES["gpt2-tiny"]))


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds"],
        ["--seeds", "-1"],
        ["--data", "rows.json"],
        ["--model", "gpt2-small"],
        ["--train-rows", "10"],
        ["--split", "book"],
        ["--prompt-style", "phi3"],
    ],
    ids=" ".join,
)
def test_what_an_entry_may_not_give_is_wrong_usage(words, monkeypatch):
    monkeypatch.setattr("sys.argv", ["speedrun", *words])
    with pytest.raises(SystemExit) as ended:
        speedrun.main()
    assert ended.value.code == 2


# --- a run ----------------------------------------------------------------------------------------
SHORT = {"batch_size": 2, "threads": 1, "dtype": "float32"}


def test_a_run_is_evaluated_at_intervals_and_at_its_end(monkeypatch):
    monkeypatch.setattr(speedrun, "STEPS_BETWEEN_EVALUATIONS", 2)
    found = measure(FinetuneOptions(max_steps=5, **SHORT), evaluate=lambda job: 0.1)
    assert [e.steps for e in found] == [2, 4, 5]
    for cost in COSTS:
        costs = [getattr(e, cost) for e in found]
        assert costs == sorted(set(costs)) and costs[0] > 0
    assert first_reaching(found, 0.95) is None


def test_a_run_ends_as_soon_as_the_last_threshold_is_reached(monkeypatch):
    monkeypatch.setattr(speedrun, "STEPS_BETWEEN_EVALUATIONS", 1)
    shares = iter([0.5, 0.96, 0.97])
    found = measure(FinetuneOptions(max_steps=9, **SHORT), evaluate=lambda job: next(shares))
    assert [e.share for e in found] == [0.5, 0.96, 0.97]


def test_seconds_do_not_contain_evaluations(monkeypatch):
    """With a clock on which only evaluations take time."""
    now = [0.0]

    def evaluate(job):
        now[0] += 1000
        return 0.0

    monkeypatch.setattr(speedrun, "STEPS_BETWEEN_EVALUATIONS", 1)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    found = measure(FinetuneOptions(max_steps=3, **SHORT), evaluate=evaluate)
    assert [e.seconds for e in found] == [0, 0, 0]
