"""Exercise 12, greedy generation: what is checked and said."""

import copy

import torch

from ch07.exercises.batch_checks import kind
from ch07.exercises.findings import call, expect
from ch07.generation import generate
from gpt_model import GPTConfig, GPTModel

CONFIG = GPTConfig(vocab_size=97, context_length=24, emb_dim=24, n_heads=3, n_layers=2)
PROMPTS = [[5, 17, 3, 80, 41, 9, 60], [12], [33, 34, 35, 36]]
NEW = 6


def _model(drop_rate=0.0):
    """Random weights far from the initial ones, so that each position says something else."""
    stream = torch.Generator().manual_seed(3)
    model = GPTModel(GPTConfig(**{**vars(CONFIG), "drop_rate": drop_rate}), stream)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=stream))
    return model


def check_generate(function):
    """Exercise 12."""
    model = _model().eval()
    for prompt in PROMPTS:  # alone
        _compare(_called(function, model, [prompt]), [prompt], model)
    _check_together(function, model)
    _check_end(function, model)
    _check_numbers(function, model)
    _check_context(function, model)
    _check_modes(function)


def _check_together(function, model):
    """Prompts of unlike lengths in one call; what the model is given tells how they are padded."""
    batches = []
    handle = model.register_forward_pre_hook(lambda module, given: batches.append(given[0]))
    result = _called(function, model, PROMPTS)
    handle.remove()
    expected = generate(model, PROMPTS, NEW)
    first, table = batches[0], _answers(result, expected)
    short = first[1].tolist() if len(first) == len(PROMPTS) else []
    expect(
        result == expected or short[:1] != PROMPTS[1],
        "right-padding-generation",
        "Short prompts were padded on the right, and answered from the last column: the model "
        "goes on from the padding, not from the prompt.",
        table,
    )
    expect(
        result == expected or short[-1:] != PROMPTS[1],
        "left-padding-no-positions",
        "Short prompts were padded on the left, and the model counts the padding as positions "
        "and looks at it: a prompt's answer then depends on its neighbours. One prompt after "
        "the other is fine here.",
        table,
    )
    expect(
        result == expected,
        "answers-depend-on-neighbours",
        "Each prompt alone is answered rightly, together they aren't.",
        table,
    )


def _called(function, model, prompts, n=NEW, case="", **options):
    mine = copy.deepcopy(prompts)
    result = call(function, model, mine, n, case=case, **options)
    expect(
        mine == prompts,
        "batch-mutated",
        "The new ids were appended to the caller's prompts: work on a copy.",
    )
    expect(
        isinstance(result, tuple | list) and len(result) == len(prompts),
        "no-lists",
        f"Expected {len(prompts)} lists of new ids, got {kind(result)}.",
    )
    rows = [row.tolist() if isinstance(row, torch.Tensor) else row for row in result]
    expect(
        all(isinstance(row, list) and all(isinstance(i, int) for i in row) for row in rows),
        "no-lists",
        f"Each answer is a list of whole numbers, but here is {str(result[0])[:60]}.",
    )
    return rows


def _compare(result, prompts, model):
    """Answers of prompts without an end, against what known mistakes give."""
    expected = generate(model, prompts, NEW)
    (mine,), (right,), (prompt,) = result, expected, prompts
    table = _answers(result, expected)
    expect(
        mine != prompt + right,
        "returns-prompt",
        "The prompt comes back with the answer: return only new ids, or the score compares the "
        "question, too.",
        table,
    )
    expect(
        len(mine) != NEW + 1 or mine[:NEW] != right,
        "one-token-too-many",
        f"{len(mine)} new ids for max_new_tokens={NEW}.",
        table,
    )
    expect(
        len(mine) >= len(right) or mine != right[: len(mine)],
        "too-few-tokens",
        f"{len(mine)} new ids for max_new_tokens={NEW}.",
        table,
    )
    first = int(model(torch.tensor([prompt]))[0, 0].argmax())
    expect(
        len(prompt) == 1 or mine[:1] != [first] or mine[:1] == right[:1],
        "first-position-logits",
        "The answer starts with what the model says after the prompt's first token: take the "
        "logits of the last position.",
        table,
    )
    repeated = len(set(mine)) == 1 and len(set(right)) > 1
    expect(
        not (repeated and mine[:1] == right[:1]),
        "nothing-appended",
        "The same token comes again and again: the new token is not appended to what the model "
        "reads next.",
        table,
    )
    expect(mine == right, "answer-wrong", "These are not the likeliest tokens.", table)


def _check_end(function, model):
    """A row stops at its own end."""
    answers = generate(model, PROMPTS, NEW)
    end = answers[0][2]
    expected = generate(model, PROMPTS, NEW, end_id=end)
    result = _called(function, model, PROMPTS, case="a model that says the end", end_id=end)
    table = _answers(result, expected)
    for mine, right, whole in zip(result, expected, answers, strict=True):
        expect(
            mine != whole or right == whole,
            "never-stops",
            f"The model said the end ({end}), but the answer goes on after it, until "
            "max_new_tokens.",
            table,
        )
        expect(
            mine != [*right, end],
            "keeps-end",
            f"The end token ({end}) is part of the answer: it is a signal, not text.",
            table,
        )
    expect(
        result == expected,
        "end-wrong",
        "Rows do not stop at their own end: one row's end must not stop the others.",
        table,
    )


def _check_numbers(function, model):
    for n in (0, 1):
        result = _called(function, model, PROMPTS, n=n, case=f"max_new_tokens={n}")
        expected = generate(model, PROMPTS, n)
        expect(
            result == expected,
            "too-few-tokens" if n else "one-token-too-many",
            f"With max_new_tokens={n} the answers are wrong.",
            _answers(result, expected),
        )


def _check_context(function, model):
    """Where the context is full, a row stops; nothing at its front is dropped."""
    prompts = [list(range(1, 1 + n)) for n in (24, 22, 21)]
    result = _called(function, model, prompts, case="a prompt that almost fills the context")
    expected = generate(model, prompts, NEW)
    expect(
        all(len(mine) <= 24 - len(prompt) for mine, prompt in zip(result, prompts, strict=True)),
        "prompt-front-dropped",
        f"A prompt of 22 tokens got {len(result[1])} new ones in a context of 24: its beginning "
        "was dropped to make room, and with it, perhaps, the instruction. Stop there.",
        _answers(result, expected),
    )
    expect(
        result == expected,
        "context-wrong",
        "Where the context is almost full, the answers are wrong.",
        _answers(result, expected),
    )


def _check_modes(function):
    """The model's mode while it answers, and afterwards."""
    model, modes = _model(drop_rate=0.5).train(), []
    handle = model.register_forward_pre_hook(
        lambda module, arguments: modes.append((module.training, torch.is_grad_enabled()))
    )
    _called(function, model, PROMPTS)
    handle.remove()
    expect(
        not any(training for training, _ in modes),
        "eval-with-dropout",
        "The model answers in training mode: dropout makes each answer another one. Call "
        "model.eval() first.",
    )
    expect(
        model.training,
        "train-mode-lost",
        "The model stays in evaluation mode afterwards: an evaluation in the middle of training "
        "would switch dropout off for good.",
    )
    expect(
        not any(gradient for _, gradient in modes),
        "gradients-kept",
        "Gradients are recorded while answering, which costs memory for nothing: use "
        "torch.no_grad().",
    )


def _answers(result, expected):
    lines = [f"returned {result[0]}", f"expected {expected[0]}"]
    for mine, right in zip(result[1:], expected[1:], strict=True):
        lines += [f"returned {mine}", f"expected {right}"]
    return "\n".join(lines)
