"""The README.md of an exported model: how it was made, how well it answers, how to use it.

Every number comes from the run folder, so the card can't promise more than was measured. Source of
the form: Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ch07.config import DEFAULT_COUNTED, FinetuneOptions
from ch07.data.byte_pair_vocabulary import vocabulary_of
from ch07.data.chat_forms import is_chat
from ch07.models.architectures import ModelConfig
from ch07.models.hub_download import PUBLISHED
from ch07.models.llama import LlamaConfig
from ch07.models.saved_run import Run
from ch07.models.smollm2 import REPOSITORY, SMOLLM2
from ch07.runs.run_folder import has_prefix
from ch07.utils.errors import InputError

REPOSITORIES = {name: published.repository for name, published in PUBLISHED.items()}
REPOSITORIES[SMOLLM2] = REPOSITORY
TRAINED = {  # by method
    "full": "all weights",
    "lora": "LoRA of rank {lora_rank}, alpha {lora_alpha:g}; merged into the weights",
    "prefix": "a prefix of {prefix_length} columns; the weights were frozen",
}
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon and AdamW"}
PREFERENCE_LOSS = (
    "preferences: direct preference optimization (DPO) with beta {beta:g}, label smoothing "
    "{label_smoothing:g} and the {reduction} of each answer's log-probabilities "
    "(counted: {counted})"
)
SINGLE_INSTRUCTIONS = """\
The model answers one instruction at a time: it was trained neither with
conversations nor with system messages, and its template raises an error for both."""
# A warning for text that contains special tokens.
END_IN_TEXT = """\
If your text may contain
`<|endoftext|>`, tokenize it with `split_special_tokens=True`, since it was ordinary text in
training."""
MARKS_IN_TEXT = """\
Marks of the template
that a user types, such as `{end}`, are read as marks by `transformers`; in training they were
ordinary text. Remove them from what users type."""
CONVERSATIONS = """\
The model was trained on conversations of {turns} turns{system}:
pass all messages so far."""
SMOLLM2_START = (
    "These weights had been tuned to follow instructions before, and were stored in 4 bits each."
)
METRICS_SHOWN = ("exact_match", "token_f1", "rouge_l", "stopped")
DEFAULT_QUESTION = {"instruction": "Name a colour."}

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [{tag}, instruction-tuning]
{base}---

# {title}

A {kind} with {parameters:,} parameters ({shape}), fine-tuned to {task}.
{start}

## How to use it

```python
{load}
message = {message}
print(generate([message], return_full_text=False)[0]["generated_text"])
```

(If you read this on the Hub, replace the folder's name by OWNER/NAME.) The chat template in this
folder writes the prompt that the model was trained with (style "{style}"), so pass messages: a bare
string is not a prompt for this model. A text that the instruction works on goes into the key
`input` of the message. {turns}
Prompt and answer together have at most {context:,} tokens. {marks}

## How it was made

| | |
| --- | --- |
| data | {rows} |
| sha256 of the data file | `{data_sha256}` |
| loss on | {loss_on} |
| trained | {trained} |
| training | {steps} of {batch_size} {unit}, peak learning rate {lr}, {optimizer} |
| precision | matrix products in {dtype}, weights in float32; seed {seed} |
| versions | Python {python}, PyTorch {torch} |

## How well it answers

{scores}
"""

LOAD = """\
from transformers import pipeline

generate = pipeline("text-generation", {folder})"""
# What was trained is a prefix in a folder of its own, beside the frozen weights.
LOAD_PREFIX = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

folder = {folder}
model = AutoModelForCausalLM.from_pretrained(folder)
model = PeftModel.from_pretrained(model, folder + "/adapter")
generate = pipeline("text-generation", model, tokenizer=AutoTokenizer.from_pretrained(folder))"""


def model_card(
    run: Run,
    scores: Mapping[str, Any] | None = None,
    held_out: Sequence[Mapping[str, Any]] | None = None,
    folder: str = "FOLDER",
) -> str:
    """The text of the card, from a run and, if there are any, its scores and held-out answers.

    `scores` and `held_out` are the contents of scores.json and responses.json; `folder` is what the
    code in the card loads. ValueError if a file of the run isn't as this version writes it.
    """
    try:
        return CARD.format(
            **_model_fields(run),
            **_training_fields(run.config),
            load=(LOAD_PREFIX if has_prefix(run.config) else LOAD).format(
                folder=json.dumps(folder, ensure_ascii=False)
            ),
            message=_message(held_out),
            scores=_score_table(scores, run.config["facts"]["rows"]["test"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{run.folder}: config.json, scores.json or responses.json is not as this version "
            f"writes it ({error!r})"
        ) from error


def _model_fields(run: Run) -> dict[str, Any]:
    """The card's fields about the model itself."""
    name = run.config["options"]["model"]  # a KeyError: the default would be a guess
    chats = run.conversations
    origin = REPOSITORIES.get(name)
    vocabulary = vocabulary_of(run.tokenizer)
    is_llama = isinstance(run.model.config, LlamaConfig)
    kind = "Llama" if is_llama else "GPT-2"
    return {
        "tag": "llama" if is_llama else "gpt2",
        "kind": kind,
        "title": f"{name}, fine-tuned by hand" if origin else f"{kind}, trained by hand",
        "base": f"base_model: {origin}\n" if origin else "",
        "marks": END_IN_TEXT if vocabulary is None else MARKS_IN_TEXT.format(end=vocabulary.end),
        "task": "answer single instructions" if chats is None else "hold conversations",
        "turns": SINGLE_INSTRUCTIONS if chats is None else _describe_turns(chats),
        "context": run.model.config.context_length,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "shape": _shape(run.model.config),
        "start": _start(name, run.config["facts"]["start_sha256"], origin),
        "style": run.style.name,
    }


def _training_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The card's fields about data and training."""
    options = FinetuneOptions(**config["options"])
    facts = config["facts"]
    settings = config["settings"]
    preference = config.get("preference")
    if preference is not None:  # runs of older versions don't say what was counted
        preference = {"counted": DEFAULT_COUNTED, **preference}
    unit = "rows" if preference is None else "pairs"
    sizes = ", ".join(f"{n:,} {name}" for name, n in facts["rows"].items())
    return {
        "rows": sizes if preference is None else f"{sizes} pairs of answers",
        "unit": unit,
        "data_sha256": facts["data_sha256"],
        "loss_on": _loss_on(options, preference),
        "trained": TRAINED[options.method].format(**vars(options)),
        "steps": _steps(settings, facts["rows"]["train"], options),
        "batch_size": _batch_size(options) * options.accumulation_steps,
        "lr": settings["peak_lr"],
        "optimizer": OPTIMIZERS[options.chosen_optimizer],
        "dtype": settings["dtype"],
        "seed": settings["seed"],
        "python": facts["versions"]["python"],
        "torch": facts["versions"]["torch"],
    }


def _loss_on(options: FinetuneOptions, preference: Mapping[str, Any] | None) -> str:
    if preference is not None:
        return PREFERENCE_LOSS.format(**preference)
    if options.rows == "own":
        return options.loss_on
    corrected = ", corrected" if options.corrected else ""
    return f"the labels of `--rows {options.rows}`{corrected}"


def _describe_turns(chats: Mapping[str, Any]) -> str:
    system = ", some with a system message" if chats["system"] else ", and without system messages"
    turns = "several" if chats["turns"] is None else f"up to {chats['turns']}"
    return CONVERSATIONS.format(turns=turns, system=system)


def _shape(config: ModelConfig) -> str:
    heads = f"{config.n_heads} heads"
    if config.n_kv_heads != config.n_heads:
        heads += f" that share {config.n_kv_heads} heads of keys and values"
    return (
        f"{config.n_layers} blocks, width {config.emb_dim}, {heads}, "
        f"context {config.context_length}"
    )


def _start(model: str, sha256: str | None, origin: str | None) -> str:
    """A sentence about the initial weights; of a path only its last part is shown."""
    if sha256 is None:
        return "It started from random weights: it knows the words of its data, and no others."
    name = origin or PurePath(model).name
    sentence = f"It started from `{name}` (sha256 of the weights `{sha256}`)."
    return f"{sentence} {SMOLLM2_START}" if model == SMOLLM2 else sentence


def _batch_size(options: FinetuneOptions) -> int:
    assert options.batch_size is not None  # the options fill in a default
    return options.batch_size


def _steps(settings: Mapping[str, Any], n_rows: int, options: FinetuneOptions) -> str:
    """The number of updates, and the number of epochs that this is."""
    batches_per_epoch = math.ceil(n_rows / _batch_size(options))
    steps_per_epoch = math.ceil(batches_per_epoch / options.accumulation_steps)
    max_steps = settings["max_steps"] or math.inf
    steps = min(settings["num_epochs"] * steps_per_epoch, max_steps)
    return f"{steps:,} steps ({steps / steps_per_epoch:.3g} epochs)"


def _message(held_out: Sequence[Mapping[str, Any]] | None) -> str:
    """A message as Python code: the first held-out entry without a backtick, which ends code."""
    entry: Mapping[str, Any] = DEFAULT_QUESTION
    for candidate in held_out or []:
        text = candidate["instruction"] + candidate.get("input", "")
        if "`" not in text and not is_chat(dict(candidate)):
            entry = candidate
            break
    message = {"role": "user", "content": entry["instruction"]}
    if entry.get("input"):
        message["input"] = entry["input"]
    return json.dumps(message, ensure_ascii=False)


def _score_table(scores: Mapping[str, Any] | None, n_held_out: int) -> str:
    if scores is None:
        if n_held_out == 0:
            return "No rows were held out, so its quality is not known."
        return f"{n_held_out:,} rows were held out, but it has not answered them yet."
    lines = ["| measured | share | 95 % interval |", "| --- | --- | --- |"]
    for name in METRICS_SHOWN:
        low, high = scores[f"{name}_interval"]
        lines.append(f"| {name} | {scores[name]:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + (
        f"\n\nMeasured on {scores['n']:,} rows held out from the same file, with greedy decoding. "
        "How it answers\nanything else is not known."
    )
