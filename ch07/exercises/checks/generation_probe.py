"""What exercise 12 is checked with: a model that can be watched, and prompts to answer."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from ch07.exercises.checks.common import call_without_mutation, describe
from ch07.exercises.mistake import expect
from gpt_model import GPTConfig, GPTModel

Generate = Callable[..., Any]
TokenIds = list[int]
CONFIG = GPTConfig(vocab_size=97, context_length=24, emb_dim=24, n_heads=3, n_layers=2)
PROMPTS: list[TokenIds] = [[5, 17, 3, 80, 41, 9, 60], [12], [33, 34, 35, 36]]
NEW_TOKENS = 6
MAX_SHOWN = 20  # ids of an answer in a table


@dataclass(frozen=True)
class ModelCall:
    """What a model was given, and how it was used."""

    token_ids: Any
    training: bool
    gradients: bool


def make_model(drop_rate: float = 0.0) -> GPTModel:
    """Large random weights, so that each position predicts something else."""
    generator = torch.Generator().manual_seed(3)
    model = GPTModel(replace(CONFIG, drop_rate=drop_rate), generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=generator))
    return model


@contextlib.contextmanager
def record_calls(model: nn.Module) -> Iterator[list[ModelCall]]:
    """Lists the calls of a model while the block runs."""
    calls: list[ModelCall] = []

    def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        token_ids = arguments[0] if arguments else None
        calls.append(ModelCall(token_ids, module.training, torch.is_grad_enabled()))

    handle = model.register_forward_pre_hook(record)
    try:
        yield calls
    finally:
        handle.remove()


def generate_answers(
    function: Generate,
    model: nn.Module,
    prompts: Sequence[TokenIds],
    n_tokens: int = NEW_TOKENS,
    case: str = "",
    **options: Any,
) -> list[TokenIds]:
    """A learner's answers to the prompts as lists of ids; a `Mistake` if they are anything else."""

    def prompts_first(prompts: Sequence[TokenIds], **options: Any) -> Any:
        return function(model, prompts, n_tokens, **options)

    result = call_without_mutation(
        prompts_first,
        list(prompts),
        case=case,
        consequence="the caller's prompts, by appending to them: work on a copy.",
        **options,
    )
    expect(
        isinstance(result, tuple | list) and len(result) == len(prompts),
        "no-lists",
        f"Expected {len(prompts)} lists of new ids, but got {describe(result)}.",
    )
    answers = [row.tolist() if isinstance(row, Tensor) else row for row in result]
    for answer in answers:
        expect(
            isinstance(answer, list) and all(isinstance(i, Integral) for i in answer),
            "no-lists",
            f"Each answer should be a list of ints, but one is {describe(answer)}.",
        )
    return answers


def answers_table(returned: Sequence[TokenIds], expected: Sequence[TokenIds]) -> str:
    """What came back, and what should have."""
    lines: list[str] = []
    for mine, right in zip(returned, expected, strict=True):
        lines.append(f"returned {mine[:MAX_SHOWN]}")
        lines.append(f"expected {right[:MAX_SHOWN]}")
    return "\n".join(lines)
