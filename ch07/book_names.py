"""The book's functions under the book's names and signatures, for a reader who types along.

Each is a few lines around the function of this project that does the work; none adds behaviour of
its own. docs/reference/book_listings.md has the whole table, including the names without an alias.

Axes: B batch, T tokens.
Source: Raschka, "Build a Large Language Model (From Scratch)", chapters 4, 5 and 7.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiktoken
import torch

from ch07.data.entries import load_entries
from ch07.evaluation.llm_judge import judge
from ch07.generation.completion import CompletionError
from ch07.generation.decoding import Sampling, continue_prompts
from ch07.generation.http_backend import complete_at_url
from ch07.utils.errors import DataError, InputError
from gpt_model import GPTModel

OLLAMA_CHAT_URL = "http://localhost:11434/api/chat"


def download_and_load_file(file_path: str | Path, url: str) -> list[dict[str, str]]:
    """The entries of a file that exists; DataError, with the download command, if it doesn't.

    The book's function downloads the file. Here only published weights are ever downloaded.
    """
    if not Path(file_path).exists():
        raise DataError(
            f"there is no {file_path}: download it first with: curl -o {file_path} {url}"
        )
    return load_entries(file_path)


def text_to_token_ids(text: str, tokenizer: tiktoken.Encoding) -> torch.Tensor:
    """Token ids of a text, with a batch axis: (1, T), int64.

    "<|endoftext|>" within the text becomes ordinary tokens; the book's function makes it one
    special token, which would let a user's text end itself.
    """
    return torch.tensor(tokenizer.encode_ordinary(text)).unsqueeze(0)


def token_ids_to_text(token_ids: torch.Tensor, tokenizer: tiktoken.Encoding) -> str:
    """The text of token ids, (1, T) or (T,)."""
    return tokenizer.decode(token_ids.squeeze(0).tolist())


def generate(
    model: GPTModel,
    idx: torch.Tensor,
    max_new_tokens: int,
    context_size: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
) -> torch.Tensor:
    """Token ids `idx` (B, T) with what the model writes after them, (B, T + new tokens).

    Temperature 0 takes the likeliest token. A row ends before `eos_id`; rows that end earlier than
    others are padded with it. When the context is full, all rows stop; the book's function
    drops the front of the prompt instead. ValueError for a prompt beyond the context.
    """
    n_prompt = idx.shape[1]
    if n_prompt > context_size:
        raise InputError(f"the prompt has {n_prompt} tokens, but context_size is {context_size}")
    rows = continue_prompts(
        model,
        idx.tolist(),
        min(max_new_tokens, context_size - n_prompt),
        sampling=Sampling(temperature=temperature, top_k=top_k),
        end_id=-1 if eos_id is None else eos_id,  # no token has the id -1
    )
    longest = max(len(row.token_ids) for row in rows)
    filled = [row.token_ids + [eos_id] * (longest - len(row.token_ids)) for row in rows]
    new = torch.tensor(filled, dtype=idx.dtype, device=idx.device).reshape(len(rows), longest)
    return torch.cat([idx, new], dim=1)


def generate_text_simple(
    model: GPTModel, idx: torch.Tensor, max_new_tokens: int, context_size: int
) -> torch.Tensor:
    """`generate` without sampling or an end token: always the likeliest token, (B, T + new)."""
    return generate(model, idx, max_new_tokens, context_size)


def generate_and_print_sample(
    model: GPTModel, tokenizer: tiktoken.Encoding, device: torch.device | str, start_context: str
) -> None:
    """Print 50 tokens after `start_context` on one line; the model's mode stays as it was."""
    idx = text_to_token_ids(start_context, tokenizer).to(device)
    token_ids = generate_text_simple(model, idx, 50, model.config.context_length)
    print(token_ids_to_text(token_ids, tokenizer).replace("\n", " "))


def query_model(prompt: str, model: str = "llama3", url: str = OLLAMA_CHAT_URL) -> str:
    """The answer of a model that Ollama serves, without randomness (temperature 0, seed 123).

    CompletionError if no server answers or it lacks the model; the message says what to do.
    """
    complete = complete_at_url(url, model, kind="ollama")
    return complete(prompt, temperature=0.0, seed=123).text


def generate_model_scores(
    json_data: Sequence[dict[str, Any]],
    json_key: str,
    model: str = "llama3",
    url: str = OLLAMA_CHAT_URL,
) -> list[float | None]:
    """A judge's score from 0 to 100 for each answer `entry[json_key]`; None where it gave none.

    The book's function leaves such replies out, so that its mean is over the others alone, and asks
    for the number where this one asks for JSON.
    CompletionError if the judge can't be reached.
    """
    answers = [entry[json_key] for entry in json_data]
    judgement = judge(complete_at_url(url, model, kind="ollama"), json_data, answers)
    if judgement.error is not None:
        raise CompletionError(judgement.error)
    return judgement.scores
