"""A batch of a data file, token by token, in the terminal or as a picture.

python -m ch07 grid [DATA] [--rows N] [--png FILE | --sentences | --json]
"""

import json
import sys

import tiktoken
from torch import nn

from ch07.data.chat_dataset import fit_conversations
from ch07.data.entries import read_data
from ch07.data.findings import Finding, summarize_findings
from ch07.data.prompt_styles import get_style
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.models.saved_run import load_trained_model
from ch07.utils.atomic_files import write_bytes
from ch07.utils.console import terminal_line
from ch07.utils.paths import check_new_file
from ch07.visualization.token_grid import TokenGrid, batch_grid
from instruction_dataset import PromptStyle


def grid(
    data: str | None = None,
    *,
    rows: int = 3,
    folder: str | None = None,
    prompt_style: str | None = None,
    loss_on: str = "response",
    allowed_max_length: int | None = None,
    skip_bad_rows: bool = False,
    png: str | None = None,
    sentences: bool = False,
    as_json: bool = False,
) -> int:
    """Show the first rows of `data` as the batch that enters the loss; returns 0.

    With a run folder or a model, its tokenizer and prompt style are used, and its loss is shown for
    each token.
    """
    if png is not None:
        check_new_file(png, "--png")
    model, tokenizer, style = _prepare(folder, prompt_style)
    file = read_data(DATA_FILE if data is None else data, skip_bad_rows)
    for line in summarize_findings(file.findings):
        print(f"data: {terminal_line(line, width=None)}", file=sys.stderr)
    entries = file.entries[:rows]
    limit = allowed_max_length if model is None else _limit_of(model, allowed_max_length)
    if limit is not None:
        dropped: list[Finding] = []
        entries = fit_conversations(entries, file.places[:rows], tokenizer, style, limit, dropped)
        for line in summarize_findings(dropped):
            print(f"data: {line}", file=sys.stderr)
    token_grid = batch_grid(
        entries,
        tokenizer,
        style,
        loss_on=loss_on,
        allowed_max_length=allowed_max_length,
        model=model,
    )
    if token_grid.cut_rows:
        problem = f"cut at {allowed_max_length} tokens, end-of-text lost, and perhaps more"
        cut = [Finding(file.places[i], "note", problem) for i in token_grid.cut_rows]
        print(f"data: {summarize_findings(cut)[0]}", file=sys.stderr)
    _show(token_grid, png, as_json, sentences)
    return 0


def _show(token_grid: TokenGrid, png: str | None, as_json: bool, sentences: bool) -> None:
    if png is not None:
        write_bytes(png, token_grid.png(), new=True)
        print(f"{terminal_line(str(png), width=None)}: {len(token_grid.rows)} rows")
    elif as_json:
        print(json.dumps(token_grid.records(), ensure_ascii=False))
    else:
        print(token_grid.sentences() if sentences else token_grid)


def _limit_of(model: nn.Module, allowed_max_length: int | None) -> int:
    """How many tokens a row may have for a model: what was asked for, at most its context."""
    context: int = model.config.context_length  # type: ignore[union-attr]
    return min(allowed_max_length or context, context)


def _prepare(
    name: str | None, style_name: str | None
) -> tuple[nn.Module | None, tiktoken.Encoding, PromptStyle]:
    """(model, tokenizer, style): of the run or model of that name; without one, GPT-2's tokenizer.

    The style is the one that was asked for, or else that of the model's training.
    """
    if name is None:
        return None, load_tokenizer(), get_style(style_name or "book")
    trained = load_trained_model(name)
    if style_name in (None, trained.style.name):
        return trained.model, trained.tokenizer, trained.style
    return trained.model, trained.tokenizer, get_style(style_name)
