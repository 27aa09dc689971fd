"""The checker: right answers pass, each mistake gets its own name, nonsense gets an answer."""

import ast
import importlib.util
import inspect
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

from ch07.exercises.catalogue import exercises, find, solution
from ch07.exercises.checker import CHECKS, diagnose
from ch07.exercises.museum.collection import EXHIBITS
from ch07.exercises.notebook import check, hint

HERE = Path(__file__).parent
NAMES = [exercise.name for exercise in exercises()]


def load(path):
    """A file of answers as a module."""
    spec = importlib.util.spec_from_file_location(f"answers_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the exercises ------------------------------------------------------------------------------


def test_each_exercise_has_stub_solution_checker_and_three_hints():
    assert len(NAMES) >= 12 and set(NAMES) == set(CHECKS)
    for exercise in exercises():
        assert len(exercise.hints) == 3 and 5 <= exercise.minutes <= 30
        names = [node.name for node in _definitions(exercise.stub_file)]
        assert names == [exercise.name]
    stubs = {path.name for path in exercises()[0].stub_file.parent.glob("*.py")}
    assert stubs == {exercise.stub for exercise in exercises()}


def _definitions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.name)
def test_the_projects_own_code_is_a_solution_and_the_stub_is_not_started(exercise):
    assert diagnose(exercise.name, solution(exercise)).ok
    report = diagnose(exercise.name, getattr(load(exercise.stub_file), exercise.name))
    assert report.status == "not started" and exercise.stub in str(report)


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.name)
def test_what_the_stub_takes_the_solution_takes_in_the_same_order(exercise):
    stub = getattr(load(exercise.stub_file), exercise.name)
    own = solution(exercise)
    wanted, given = (list(inspect.signature(f).parameters) for f in (stub, own))
    if exercise.name == "generate":  # end_id stands among the options there
        wanted = wanted[:3]
        given = given[:3]
    assert given[: len(wanted)] == wanted
    for name in wanted:
        default = inspect.signature(stub).parameters[name].default
        if default is not inspect.Parameter.empty:
            assert inspect.signature(own).parameters[name].default == default


# --- right answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", ["loops", "library", "vectorised"])
def test_right_answers_in_three_styles_are_accepted(style, name):
    report = diagnose(name, getattr(load(HERE / f"correct_{style}.py"), name))
    assert report.ok, report


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda e: f"{e.exercise}-{e.diagnosis}")
def test_every_bug_of_the_museum_is_named(exhibit):
    report = diagnose(exhibit.exercise, exhibit.code)
    assert (report.status, report.diagnosis) == ("mistake", exhibit.diagnosis), report


@pytest.mark.parametrize("exhibit", [e for e in EXHIBITS if e.exercise == "KVCache"])
def test_a_second_check_in_one_process_says_the_same(exhibit):
    """What a class shares between its instances is still there at the next check."""
    for _ in range(2):
        assert diagnose("KVCache", exhibit.code).diagnosis == exhibit.diagnosis


def test_the_museum_is_large_and_every_label_says_where():
    assert len(EXHIBITS) >= 30
    assert {exhibit.exercise for exhibit in EXHIBITS} == set(NAMES)
    assert len({(e.exercise, e.diagnosis) for e in EXHIBITS}) == len(EXHIBITS)
    for exhibit in EXHIBITS:
        assert re.fullmatch(r"https://\S+", exhibit.url), exhibit
        assert len(exhibit.seen.split()) >= 5 and exhibit.seen.endswith((".", ").")), exhibit.seen
        assert exhibit.story.endswith("."), exhibit


def test_a_puzzle_does_not_give_itself_away():
    for exhibit in EXHIBITS:
        source = exhibit.source
        assert source.startswith(("def ", "class ", "@torch")), source
        assert exhibit.story not in source and exhibit.diagnosis not in source
        assert exhibit.exercise in source and exhibit.code.__name__ not in source
        ast.parse(source)
        assert source.count("\n") <= 35


# --- nonsense -----------------------------------------------------------------------------------


class Odd:
    """An object that answers every question with itself."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments, **options):
        return self

    def __iter__(self):
        return iter([self, self])


def _raises(*arguments, **options):
    raise KeyError("what?")


NONSENSE = {
    "None": lambda *a, **k: None,
    "a number": lambda *a, **k: 5,
    "a string": lambda *a, **k: "x",
    "an empty list": lambda *a, **k: [],
    "a pair of nothing": lambda *a, **k: (None, None),
    "a pair of strings": lambda *a, **k: ("a", "b"),
    "ragged lists": lambda *a, **k: ([[1], [2, 3]], [[1]]),
    "an empty tensor": lambda *a, **k: torch.zeros(0),
    "two empty tensors": lambda *a, **k: (torch.zeros(0, 0).long(), torch.zeros(0, 0).long()),
    "a nan": lambda *a, **k: torch.tensor(float("nan")),
    "its arguments": lambda *a, **k: a,
    "its first argument": lambda *a, **k: a[0],
    "a wrong number of arguments": lambda: None,
    "a generator": lambda *a, **k: (i for i in range(3)),
    "a class": Odd,
    "an odd object": Odd(),
    "an exception": _raises,
    "no code at all": 42,
    "nothing": None,
    "a float pair": lambda *a, **k: (torch.zeros(3, 5), torch.zeros(3, 5)),
    "wide": lambda *a, **k: (torch.zeros(3, 900).long(), torch.zeros(3, 900).long()),
    "narrow": lambda *a, **k: (torch.zeros(3, 1).long(), torch.zeros(3, 1).long()),
    "one row": lambda *a, **k: (torch.zeros(1, 5).long(), torch.zeros(1, 5).long()),
    "infinite": lambda *a, **k: torch.full((2, 3, 5, 4), torch.inf),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_gets_an_answer(kind, name):
    report = diagnose(name, NONSENSE[kind])
    assert report.status == "mistake", report
    assert report.sentence.endswith((".", "?)", "`")) and "\n" not in report.sentence
    assert len(str(report)) < 3000
    assert "ch07/exercises" not in str(report), "the checker's own lines are no help"


def _lists_first(batch, pad_token_id=50256, device="cpu"):
    """Right only where the first row is the longest."""
    return torch.tensor([row + [pad_token_id] * (len(batch[0]) - len(row)) for row in batch])


def _squeezed(batch, pad_token_id=50256, device="cpu"):
    """Right only for more than one row."""
    return solution(find("custom_collate_draft_1"))(batch, pad_token_id, device).squeeze()


def _detached(queries, keys, values):
    """The right numbers, but queries never learn."""
    return solution(find("causal_attention"))(queries.detach(), keys, values)


def _first_group_only(window, model, optimizer, device, lr, settings):
    """Sets the learning rate in one group."""
    groups = optimizer.param_groups
    optimizer.param_groups = optimizer.param_groups[:1]
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.param_groups = groups
    rates = [group["lr"] for group in groups]
    step = optimizer.step

    def stepping():
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        step()

    optimizer.step = stepping
    return solution(find("train_step"))(window, model, optimizer, device, lr, settings)


def _six_at_most(model, prompts, max_new_tokens, end_id=50256):
    """Never more than six tokens."""
    return solution(find("generate"))(model, prompts, min(6, max_new_tokens), end_id=end_id)


def _any_row_empty(input_batch, target_batch, model, device):
    """Refuses a batch in which one row has no target."""
    if (target_batch == -100).all(dim=1).any():
        raise ValueError
    return solution(find("calc_loss_batch"))(input_batch, target_batch, model, device)


def _stripped(entry):
    """Changes what the user typed."""
    return solution(find("format_input"))({**entry, "instruction": entry["instruction"].strip()})


SUBTLE = {
    "custom_collate_draft_1": [_lists_first, _squeezed],
    "causal_attention": [_detached],
    "train_step": [_first_group_only],
    "generate": [_six_at_most],
    "calc_loss_batch": [_any_row_empty],
    "format_input": [_stripped],
}


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, all_of in SUBTLE.items() for wrong in all_of]
)
def test_what_is_wrong_in_special_cases_only_is_found_as_well(name, wrong):
    assert diagnose(name, wrong).status == "mistake"


def test_two_views_of_one_tensor_and_swapped_tensors_are_named():
    def custom_collate_fn(
        batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
    ):
        width = max(map(len, batch)) + 1
        padded = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in batch])
        inputs = padded[:, :-1]
        targets = padded[:, 1:]
        for i, row in enumerate(batch):
            targets[i, len(row) :] = ignore_index
        return inputs, targets

    assert check(custom_collate_fn).diagnosis == "shared-memory"

    def custom_collate_draft_2(batch, pad_token_id=50256, device="cpu"):
        return solution(find("custom_collate_draft_2"))(batch, pad_token_id, device)[::-1]

    assert check(custom_collate_draft_2).diagnosis == "swapped"


def test_a_learners_exception_names_its_line():
    def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
        return batch[10]

    report = check(custom_collate_draft_1)
    assert report.diagnosis == "raised"
    assert "IndexError: list index out of range" in report.sentence
    assert "return batch[10]" in report.sentence


def test_what_is_printed_is_told_and_random_numbers_are_left_alone(capsys):
    def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
        print("looking at", batch)
        torch.manual_seed(99)
        width = max(map(len, batch))
        rows = [row + [pad_token_id] * (width - len(row)) for row in batch]
        return torch.tensor(rows, device=device)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    report = check(custom_collate_draft_1)
    assert report.ok and "looking at [[0, 1" in str(report)
    assert torch.equal(before, torch.get_rng_state())
    assert capsys.readouterr().out == ""


def test_code_that_closes_the_output_is_checked_all_the_same():
    def format_input(entry):
        print("bye")
        sys.stdout.close()
        return solution(find("format_input"))(entry)

    report = check(format_input)
    assert report.ok and "bye" in report.printed
    assert not sys.stdout.closed


def test_what_is_left_open_for_a_special_case_is_no_untouched_stub():
    right = solution(find("custom_collate_fn"))

    def custom_collate_fn(
        batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
    ):
        if allowed_max_length is not None:
            raise NotImplementedError
        return right(batch, pad_token_id, ignore_index, device=device)

    report = check(custom_collate_fn)
    assert report.status == "mistake" and "allowed_max_length=" in report.sentence


def test_torchs_defaults_are_afterwards_as_they_were():
    def format_input(entry):
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        raise KeyError

    check(format_input)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.zeros(1).device.type == "cpu"
    assert torch.utils._device.CURRENT_DEVICE is None  # setting it costs time at every call


# --- in a notebook ------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_endless_code_in_a_notebook_is_interrupted(handler):
    """Even in a process that was started in the background, where Ctrl-C is ignored."""

    def format_input(entry):
        while True:
            pass

    before = signal.signal(signal.SIGINT, handler)
    try:
        report = check(format_input, seconds=0.3)
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert report.diagnosis == "endless" and "0.3 seconds" in str(report)


def test_endless_code_and_exits_are_seen_where_a_refusal_is_wanted():
    right = solution(find("calc_loss_batch"))

    def calc_loss_batch(input_batch, target_batch, model, device):
        while (target_batch == -100).all():
            pass
        return right(input_batch, target_batch, model, device)

    assert check(calc_loss_batch, seconds=1).diagnosis == "endless"

    def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
        if str(device) != "cpu":
            raise SystemExit
        return solution(find("custom_collate_draft_1"))(batch, pad_token_id)

    assert check(custom_collate_draft_1).ok


def test_the_hint_is_for_where_you_are():
    wrong = check(lambda entry: "", "format_input")
    assert 'hint("format_input")' in str(wrong) and "python -m" not in str(wrong)


def test_check_goes_by_the_functions_name_or_the_name_given():
    assert check(solution(find("generate"))).ok
    assert check(lambda entry: find("format_input") and None, "format_input").status == "mistake"
    with pytest.raises(ValueError, match="no exercise '<lambda>'; choose one of format_input"):
        check(lambda: None)


def test_hints_say_more_and_more():
    texts = [hint("custom_collate_fn", level) for level in (1, 2, 3)]
    assert len(set(texts)) == 3 and texts[2].startswith("Hint 3 of 3 (the last one)")
    with pytest.raises(ValueError, match="hints 1 to 3"):
        hint("generate", 4)
