"""LLM-as-a-judge: a language model reads task, reference and answer, and gives a score.

The one idea: a judge is a noisy instrument, so its failures are part of the result. An answer
without a score stays in the count, and two means are reported: over the scores, and with every
failure counted as the lowest score. The report also has the judge's rank correlation with
deterministic metrics. Knows nothing of servers or models: it takes a `complete`
(`ch07.generation.completion`), and asks for JSON unless that says that it can't be had.

Source: the judge of Raschka's section 7.8 and of his 03_model-evaluation, with its scale of 0 to
100; there a reply that is not an integer is left out of the mean. No judge can be trusted with an
answer that is addressed to it ("give me 100"): no prompt prevents that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ch07.evaluation.judge_scores import HUNDRED, Scale, parse_score
from ch07.evaluation.metrics import exact_match, rouge_l, token_f1
from ch07.evaluation.rank_correlation import kendall, spearman
from ch07.generation.completion import Completion, PromptRejected, SchemaUnsupported
from ch07.utils.errors import UserError

METRICS = {"exact_match": exact_match, "token_f1": token_f1, "rouge_l": rouge_l}
# A model that reasons thinks before it writes the number; others end after it.
DEFAULT_OPTIONS = {"temperature": 0.0, "seed": 123, "max_new_tokens": 1024}


def judge_prompt(
    entry: dict[str, Any], answer: str, scale: Scale = HUNDRED, as_json: bool = False
) -> str:
    """The prompt for the judge, about one answer to an entry with a reference "output".

    It ends with the scale's question; with `as_json`, with that for a reply in JSON, since a schema
    binds a model's reply, but doesn't tell it what is wanted.
    """
    question = scale.json_question if as_json else scale.question
    input_text = f"\n\nThe task works on this:\n{entry['input']}" if entry.get("input") else ""
    return (
        f"You grade an answer to a task.{_said_before(entry)}"
        f"\n\nThe task:\n{entry['instruction']}{input_text}"
        f"\n\nA reference answer, which is right:\n{entry['output']}"
        f"\n\nThe answer to be graded:\n{answer.strip() or '[it is empty]'}\n\n{question}"
    )


def _said_before(entry: dict[str, Any]) -> str:
    """The conversation that the task continues, if it continues one."""
    lines = [f"System: {entry['system']}"] if entry.get("system") else []
    for turn in entry.get("history", ()):
        lines += [f"User: {turn['instruction']}", f"Assistant: {turn['output']}"]
    return "\n\nWhat was said before:\n" + "\n".join(lines) if lines else ""


# --- many answers -------------------------------------------------------------------------------
@dataclass
class Judgement:
    """The judge's replies and scores, one per answer, in order; fewer if an `error` ended it."""

    scale: Scale
    replies: list[str] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)  # None: the reply has no score
    n_cut: int = 0  # replies without a score that reached the limit of tokens
    error: str | None = None


def judge(
    complete: Callable[..., Completion],
    entries: Iterable[dict[str, Any]],
    answers: Iterable[str],
    scale: Scale = HUNDRED,
    **options: Any,
) -> Judgement:
    """The `Judgement` of all answers, empty ones included; `options` are those of `complete`.

    Replies are asked for as JSON with the scale's schema; where there can be none, in words alone.
    An error of the server ends the judging; the scores so far are kept.
    """
    judgement = Judgement(scale)
    for entry, answer in zip(entries, answers, strict=True):
        try:
            completion = _ask(complete, entry, answer, scale, {**DEFAULT_OPTIONS, **options})
        except UserError as error:  # no server, or too long a prompt
            judgement.error = str(error)
            break
        score = parse_score(completion.text, scale)
        if score is None and completion.finish_reason == "length":
            judgement.n_cut += 1
        judgement.replies.append(completion.text)
        judgement.scores.append(score)
    return judgement


def _ask(
    complete: Callable[..., Completion],
    entry: dict[str, Any],
    answer: str,
    scale: Scale,
    options: dict[str, Any],
) -> Completion:
    """The judge's reply, in JSON if `complete` takes a schema; a server is asked for that once.

    A request that is rejected for another reason may be so for its schema: not all servers say.
    """
    prompt = judge_prompt(entry, answer, scale, as_json=True)
    try:
        return complete(prompt, schema=scale.schema, **options)
    except (SchemaUnsupported, PromptRejected):
        return complete(judge_prompt(entry, answer, scale), **options)


def summarise(
    judgement: Judgement, entries: Sequence[dict[str, Any]], answers: Sequence[str]
) -> dict[str, Any]:
    """A dict: n, n_judged, n_parsed, both means, and the rank correlation with each metric.

    `mean_parsed` is the mean of the scores; `mean_all` also counts each reply without a score as
    the lowest score. A mean is None if there is nothing to average. Correlations use the scores.
    """
    scale = judgement.scale
    scores = judgement.scores
    parsed = [i for i, score in enumerate(scores) if score is not None]
    numbers = [score for score in scores if score is not None]
    agreement = {}
    for name, metric in METRICS.items():
        values = [metric(answers[i], entries[i]["output"]) for i in parsed]
        agreement[name] = {
            "spearman": spearman(numbers, values),
            "kendall": kendall(numbers, values),
        }
    return {
        "scale": scale.name,
        "n": len(entries),
        "n_judged": len(scores),
        "n_parsed": len(parsed),
        "n_cut": judgement.n_cut,
        "mean_parsed": _mean(numbers),
        "mean_all": _mean([scale.low if score is None else score for score in scores]),
        "agreement": agreement,
        "error": judgement.error,
        "scores": scores,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def judgement_lines(summary: dict[str, Any]) -> Iterator[str]:
    """The lines of a summary, to be printed."""
    yield (
        f"judge, scale {summary['scale']}: {summary['n_judged']} of {summary['n']} answers judged, "
        f"{summary['n_parsed']} scored"
    )
    if summary["n_cut"]:
        yield f"replies that reached the limit of tokens without a score: {summary['n_cut']}"
    mean_parsed = _format(summary["mean_parsed"], 2)
    mean_all = _format(summary["mean_all"], 2)
    yield f"mean score {mean_parsed}; {mean_all} if every failure counts as the lowest score"
    for name, correlations in summary["agreement"].items():
        spearman_text = _format(correlations["spearman"], 3)
        kendall_text = _format(correlations["kendall"], 3)
        yield f"correlation with {name:<11}  Spearman {spearman_text:>6}  Kendall {kendall_text:>6}"


def _format(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
