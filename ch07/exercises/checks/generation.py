"""Exercise 12, greedy generation: what is checked and said."""

import torch

from ch07.exercises.checks.generation_probe import (
    NEW,
    PROMPTS,
    answers_table,
    called,
    make_model,
    watched,
)
from ch07.exercises.report import expect
from ch07.generation.decoding import generate


def check_generate(function):
    """Exercise 12."""
    model = make_model().eval()
    for prompt in PROMPTS:  # alone
        _compare(called(function, model, [prompt]), [prompt], model)
    _check_together(function, model)
    _check_end(function, model)
    _check_numbers(function, model)
    _check_context(function, model)
    _check_modes(function)


def _check_together(function, model):
    """Prompts of unlike lengths in one call: what the model is given tells how they are padded."""
    with watched(model) as seen:
        result = called(function, model, PROMPTS)
    expected = generate(model, PROMPTS, NEW)
    table = answers_table(result, expected)
    wide = [ids for ids, _, _ in seen if getattr(ids, "ndim", 0) == 2 and len(ids) == len(PROMPTS)]
    short = wide[0][1].tolist() if wide else []
    expect(
        result == expected or sorted(result) != sorted(expected),
        "answers-out-of-order",
        "The answers are right, but in another order than their prompts.",
        table,
    )
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
    twice = [PROMPTS[2], PROMPTS[0], PROMPTS[2]]
    expect(
        called(function, model, twice, case="the same prompt twice") == generate(model, twice, NEW)
        and called(function, model, [], case="no prompts at all") == [],
        "answers-depend-on-neighbours",
        "With the same prompt twice, or with none, the answers are wrong.",
    )


def _compare(result, prompts, model):
    """Answers of prompts without an end, against what known mistakes give."""
    expected = generate(model, prompts, NEW)
    (mine,), (right,), (prompt,) = result, expected, prompts
    table = answers_table(result, expected)
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
    result = called(function, model, PROMPTS, case="a model that says the end", end_id=end)
    table = answers_table(result, expected)
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
    for case, special in (
        ("its first new token", answers[0][0]),
        ("a prompt's token", PROMPTS[2][1]),
    ):
        result = called(function, model, PROMPTS, case=f"{case} as the end", end_id=special)
        expected = generate(model, PROMPTS, NEW, end_id=special)
        expect(
            result == expected,
            "end-wrong",
            f"With {case} as the end, the answers are wrong.",
            answers_table(result, expected),
        )


def _check_numbers(function, model):
    for n in (0, 1, 15):
        result = called(function, model, PROMPTS, n=n, case=f"max_new_tokens={n}")
        expected = generate(model, PROMPTS, n)
        longer = len(result[0]) > n
        expect(
            result == expected,
            "one-token-too-many" if longer else "too-few-tokens",
            f"With max_new_tokens={n} the answers are wrong.",
            answers_table(result, expected),
        )


def _check_context(function, model):
    """Where the context is full, a row stops; nothing at its front is dropped."""
    prompts = [list(range(1, 1 + n)) for n in (24, 22, 21)]
    result = called(function, model, prompts, case="a prompt that almost fills the context")
    expected = generate(model, prompts, NEW)
    expect(
        all(len(mine) <= 24 - len(prompt) for mine, prompt in zip(result, prompts, strict=True)),
        "prompt-front-dropped",
        f"A prompt of 22 tokens got {len(result[1])} new ones in a context of 24: its beginning "
        "was dropped to make room, and with it, perhaps, the instruction. Stop there.",
        answers_table(result, expected),
    )
    expect(
        result == expected,
        "context-wrong",
        "Where the context is almost full, the answers are wrong.",
        answers_table(result, expected),
    )


def _check_modes(function):
    """The model's mode while it answers, and afterwards."""
    for training in (True, False):
        model = make_model(drop_rate=0.5).train(training)
        with watched(model) as seen:
            result = called(function, model, PROMPTS)
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        expect(
            not any(mode for _, mode, _ in seen) and result == generate(model, PROMPTS, NEW),
            "eval-with-dropout",
            "The model answers in training mode: dropout makes each answer another one. Call "
            "model.eval() first.",
        )
        expect(
            model.training or not training,
            "train-mode-lost",
            "The model stays in evaluation mode afterwards: an evaluation in the middle of "
            "training would switch dropout off for good.",
        )
        expect(
            model.training == training,
            "train-mode-forced",
            "A model that was in evaluation mode comes back in training mode.",
        )
        expect(
            not any(gradient for _, _, gradient in seen),
            "gradients-kept",
            "Gradients are recorded while answering, which costs memory for nothing: use "
            "torch.no_grad().",
        )
        expect(
            recording and all(weight.requires_grad for weight in model.parameters()),
            "gradients-off",
            "Gradients stay switched off afterwards: no training step works any more.",
        )
