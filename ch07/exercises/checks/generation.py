"""Exercise 12, greedy generation."""

import torch

from ch07.exercises.checks.generation_probe import (
    CONFIG,
    NEW_TOKENS,
    PROMPTS,
    Generate,
    TokenIds,
    answers_table,
    generate_answers,
    make_model,
    record_calls,
)
from ch07.exercises.mistake import Mistake, expect
from ch07.generation.decoding import generate
from gpt_model import GPTModel


def check_generate(function: Generate) -> None:
    """Exercise 12."""
    model = make_model().eval()
    for prompt in PROMPTS:
        _check_one_prompt(function, model, prompt)
    _check_together(function, model)
    _check_end(function, model)
    _check_max_new_tokens(function, model)
    _check_full_context(function, model)
    for training in (True, False):
        _check_mode(function, training)


def _check_one_prompt(function: Generate, model: GPTModel, prompt: TokenIds) -> None:
    """A prompt alone, whose answer contains no end."""
    (mine,) = generate_answers(function, model, [prompt])
    (right,) = generate(model, [prompt], NEW_TOKENS)
    table = answers_table([mine], [right])
    expect(
        mine != prompt + right,
        "returns-prompt",
        "The prompt is returned with the answer: return only the new ids, or the evaluation would "
        "score the question as well.",
        table,
    )
    count = f"There are {len(mine)} new ids, but max_new_tokens is {NEW_TOKENS}."
    is_one_more = len(mine) == NEW_TOKENS + 1 and mine[:NEW_TOKENS] == right
    expect(not is_one_more, "one-token-too-many", count, table)
    is_cut = len(mine) < len(right) and mine == right[: len(mine)]
    expect(not is_cut, "too-few-tokens", count, table)
    after_first_token = int(model(torch.tensor([prompt]))[0, 0].argmax())
    reads_first_position = mine[:1] == [after_first_token] and mine[:1] != right[:1]
    expect(
        len(prompt) == 1 or not reads_first_position,
        "first-position-logits",
        "The answer starts with what the model predicts after the prompt's first token: use the "
        "logits of the last position.",
        table,
    )
    is_repeated = len(set(mine)) == 1 and len(set(right)) > 1
    expect(
        not (is_repeated and mine[:1] == right[:1]),
        "nothing-appended",
        "The same token comes again and again: the new token is not appended to what the model "
        "reads next.",
        table,
    )
    expect(mine == right, "answer-wrong", "These are not the likeliest tokens.", table)


def _check_together(function: Generate, model: GPTModel) -> None:
    """Prompts of different lengths in one call: the model's input shows how they are padded."""
    with record_calls(model) as calls:
        result = generate_answers(function, model, PROMPTS)
    expected = generate(model, PROMPTS, NEW_TOKENS)
    if result != expected:
        n = len(PROMPTS)
        inputs = [call.token_ids for call in calls]
        batches = [ids for ids in inputs if getattr(ids, "ndim", 0) == 2 and len(ids) == n]
        short_row = batches[0][1].tolist() if batches else []
        _name_wrong_answers(result, expected, short_row)
    twice = [PROMPTS[2], PROMPTS[0], PROMPTS[2]]
    answers = generate_answers(function, model, twice, case="the same prompt twice")
    no_answers = generate_answers(function, model, [], case="no prompts at all")
    expect(
        answers == generate(model, twice, NEW_TOKENS) and no_answers == [],
        "answers-depend-on-neighbours",
        "With the same prompt twice, or with no prompt, the answers are wrong.",
    )


def _name_wrong_answers(
    result: list[TokenIds], expected: list[TokenIds], short_row: TokenIds
) -> None:
    """`short_row` is what the model was first given for the prompt of one token."""
    table = answers_table(result, expected)
    expect(
        sorted(result) != sorted(expected),
        "answers-out-of-order",
        "The answers are right, but not in the order of their prompts.",
        table,
    )
    expect(
        short_row[:1] != PROMPTS[1],
        "right-padding-generation",
        "Short prompts were padded on the right, and the next token was read from the last column: "
        "the model continues the padding, not the prompt.",
        table,
    )
    expect(
        short_row[-1:] != PROMPTS[1],
        "left-padding-no-positions",
        "Short prompts were padded on the left, but the model still counts the padding as "
        "positions and attends to it: an answer then depends on the other prompts. Answering one "
        "prompt after the other is fine here.",
        table,
    )
    raise Mistake(
        "answers-depend-on-neighbours",
        "Each prompt is answered correctly on its own, but not together with the others.",
        table,
    )


def _check_end(function: Generate, model: GPTModel) -> None:
    """A row stops at its own end."""
    answers = generate(model, PROMPTS, NEW_TOKENS)
    end = answers[0][2]
    expected = generate(model, PROMPTS, NEW_TOKENS, end_id=end)
    result = generate_answers(function, model, PROMPTS, case="an answer that ends", end_id=end)
    table = answers_table(result, expected)
    for mine, right, endless in zip(result, expected, answers, strict=True):
        expect(
            mine != endless or right == endless,
            "never-stops",
            f"The model generated the end token ({end}), but the answer continues up to "
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
        "Rows don't stop at their own end: one row's end must not stop the others.",
        table,
    )
    for case, token in (
        ("its first new token as the end", answers[0][0]),
        ("a token of a prompt as the end", PROMPTS[2][1]),
    ):
        result = generate_answers(function, model, PROMPTS, case=case, end_id=token)
        expected = generate(model, PROMPTS, NEW_TOKENS, end_id=token)
        expect(
            result == expected,
            "end-wrong",
            f"With {case}, the answers are wrong.",
            answers_table(result, expected),
        )


def _check_max_new_tokens(function: Generate, model: GPTModel) -> None:
    for n in (0, 1, 15):
        case = f"max_new_tokens={n}"
        result = generate_answers(function, model, PROMPTS, n, case=case)
        expected = generate(model, PROMPTS, n)
        expect(
            result == expected,
            "one-token-too-many" if len(result[0]) > n else "too-few-tokens",
            f"With {case} the answers are wrong.",
            answers_table(result, expected),
        )


def _check_full_context(function: Generate, model: GPTModel) -> None:
    """Where the context is full, a row stops; nothing is dropped at its front."""
    context = CONFIG.context_length
    prompts = [list(range(1, 1 + context - free)) for free in (0, 2, 3)]
    case = "a prompt that almost fills the context"
    result = generate_answers(function, model, prompts, case=case)
    expected = generate(model, prompts, NEW_TOKENS)
    table = answers_table(result, expected)
    fits = [
        len(mine) + len(prompt) <= context for mine, prompt in zip(result, prompts, strict=True)
    ]
    expect(
        all(fits),
        "prompt-front-dropped",
        f"A prompt of {len(prompts[1])} tokens got {len(result[1])} new ones in a context of "
        f"{context}: the prompt's beginning, perhaps its instruction, was dropped to make room. "
        "Stop instead.",
        table,
    )
    expect(result == expected, "context-wrong", f"With {case}, the answers are wrong.", table)


def _check_mode(function: Generate, training: bool) -> None:
    """The model's mode while it answers, and afterwards."""
    model = make_model(drop_rate=0.5).train(training)
    with record_calls(model) as calls:
        result = generate_answers(function, model, PROMPTS)
    gradients_enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    used_dropout = any(call.training for call in calls)
    expect(
        not used_dropout and result == generate(model, PROMPTS, NEW_TOKENS),
        "eval-with-dropout",
        "The model answers in training mode: dropout changes the answer each time. Call "
        "model.eval() first.",
    )
    expect(
        model.training or not training,
        "train-mode-lost",
        "The model stays in evaluation mode afterwards: an evaluation in the middle of training "
        "would switch dropout off for good.",
    )
    expect(
        model.training == training,
        "train-mode-forced",
        "A model that was in evaluation mode comes back in training mode.",
    )
    expect(
        not any(call.gradients for call in calls),
        "gradients-kept",
        "Gradients are recorded during generation, which only costs memory: use torch.no_grad().",
    )
    expect(
        gradients_enabled and all(weight.requires_grad for weight in model.parameters()),
        "gradients-off",
        "Gradients stay disabled afterwards: no training step would work.",
    )
