"""What the page `look` would compute, computed here: losses, next tokens and attention.

Axes: T tokens, V vocabulary, H heads.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.token_text import token_text
from ch07.data.tokenizer import end_token_id
from ch07.models.architectures import BaseModel
from ch07.models.attention_weights import logits_and_attention
from ch07.models.saved_run import Run
from ch07.pages.look_weights import base64_of_float16
from ch07.utils.console import count
from ch07.utils.errors import RunFolderError
from instruction_dataset import Entry

TOP_TOKENS = 10  # that are listed, as in look/reading.js
TEMPERATURES = [tenths / 10 for tenths in range(1, 21)]  # the places of the page's slider
DIGITS = 5  # after the decimal point


def readings_block(
    run: Run, model: BaseModel, entries: Sequence[Entry], report: Callable[[str], None]
) -> dict[str, Any]:
    """The block "readings": for each entry, its prompt with the run's and the right answer.

    `report` gets a line if some don't fit into the context.
    """
    end_id = end_token_id(run.tokenizer)
    readings = []
    shown: set[int] = set()
    n_too_long = 0
    for entry in entries:
        prompt = encode_chat_prompt(entry, run.tokenizer, run.style)
        pair: dict[str, Any] = {}
        for kind, text in (("answer", entry["model_response"]), ("output", entry["output"])):
            ids = [*prompt, *run.tokenizer.encode_ordinary(text)]
            if len(ids) > model.config.context_length:
                n_too_long += 1
                pair[kind] = None
            else:
                pair[kind] = reading_of(model, ids, len(prompt), end_id)
                shown |= set(ids) | {token for row in pair[kind]["top"] for token in row}
        readings.append(pair)
    if n_too_long:
        report(f"{count(n_too_long, 'answer')} left out: longer than the model's context")
    shown.add(end_id)
    pieces = {str(token): token_text(token, run.tokenizer, end_id) for token in sorted(shown)}
    return {"temperatures": TEMPERATURES, "pieces": pieces, "readings": readings}


def reading_of(model: BaseModel, ids: Sequence[int], n_prompt: int, end_id: int) -> dict[str, Any]:
    """One text as `look/reading.js` reads it: each row of the result is about one token."""
    logits, attention = logits_and_attention(model, ids)
    logits = logits.double().cpu()  # (T, V)
    if not logits.isfinite().all():
        raise RunFolderError(
            "the model computes numbers that are not finite, so there is nothing to show: train "
            "again with a lower --lr"
        )
    targets = torch.tensor([*ids[1:], end_id])
    right = logits.gather(1, targets[:, None])[:, 0]
    ties = (logits == right[:, None]) & (torch.arange(logits.shape[1]) < targets[:, None])
    ranks = (logits > right[:, None]).sum(1) + ties.sum(1) + 1
    top = logits.topk(TOP_TOKENS)
    totals = torch.stack([(logits / t).logsumexp(dim=-1) for t in TEMPERATURES], dim=1)
    return {
        "ids": list(ids),
        "nPrompt": n_prompt,
        "losses": _rounded(logits.logsumexp(dim=-1) - right),
        "ranks": ranks.tolist(),
        "right": _rounded(right),
        "top": top.indices.tolist(),
        "logits": _rounded(top.values),
        "totals": _rounded(totals),
        "attention": base64_of_float16(_by_token(attention)),
    }


def _by_token(attention: Sequence[Tensor]) -> list[Tensor]:
    """For each layer and token its weights (H, keys), as many keys as the token attends to."""
    return [
        layer[:, t, : t + 1].cpu().contiguous()
        for layer in attention
        for t in range(layer.shape[1])
    ]


def _rounded(numbers: Tensor) -> Any:
    return [
        [round(x, DIGITS) for x in row] if isinstance(row, list) else round(row, DIGITS)
        for row in numbers.tolist()
    ]
