"""The README.md of an exported model: what made it, how well it answers, how to ask it.

The one idea: every number comes from the run folder, so a card can't promise more than was
measured. Source of the form: Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

import json
import math
from pathlib import PurePath

from ch07.config import FinetuneOptions
from ch07.models.hub_download import PUBLISHED

TRAINED = {
    "full": "all weights",
    "lora": "LoRA of rank {lora_rank}, alpha {lora_alpha:g}; merged into the weights",
    "prefix": "a prefix of {prefix_length} columns; the weights stood still",
}
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon and AdamW"}

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, instruction-tuning]
{base}---

# {title}

A GPT-2 with {parameters:,} parameters ({shape}), fine-tuned to answer single instructions.
{start}

## How to ask it

```python
{load}
message = {message}
print(generate([message], return_full_text=False)[0]["generated_text"])
```

(If you read this on the Hub, put OWNER/NAME there.) The chat template in this folder writes the
prompt as in training (style "{style}"), so give messages: a bare string is no prompt to this model.
What an instruction works on goes into a key `input` of the message. The model answers one question
at a time: it has seen neither conversations nor system messages, and its template refuses them.
If your text itself may hold
`<|endoftext|>`, tokenize with `split_special_tokens=True`; in training it was ordinary text.

## How it was made

| | |
| --- | --- |
| data | {rows} |
| sha256 of the data file | `{data_sha256}` |
| loss on | {loss_on} |
| trained | {trained} |
| training | {steps} of {batch_size} rows, peak learning rate {lr}, {optimizer} |
| numbers | matrix products in {dtype}, weights in float32; seed {seed} |
| versions | Python {python}, PyTorch {torch} |

## How well it answers

{scores}
"""


LOAD = """\
from transformers import pipeline

generate = pipeline("text-generation", {folder})"""
# What training made is a prefix in a folder of its own, beside weights that stood still.
LOAD_PREFIX = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

folder = {folder}
model = AutoModelForCausalLM.from_pretrained(folder)
model = PeftModel.from_pretrained(model, folder + "/adapter")
generate = pipeline("text-generation", model, tokenizer=AutoTokenizer.from_pretrained(folder))"""


def model_card(run, scores=None, held_out=None, folder="FOLDER"):
    """The text, from a `Run` and, if it has them, the contents of scores.json and responses.json.

    ValueError where the run's config.json isn't one that this version wrote.
    """
    config, facts, settings = run.model.config, run.config["facts"], run.config["settings"]
    load = LOAD_PREFIX if run.config["options"].get("method") == "prefix" else LOAD
    try:
        options = FinetuneOptions(**run.config["options"])
        run.config["options"]["model"]  # a default would be a guess
        rows, versions = facts["rows"], facts["versions"]
        origin = PUBLISHED.get(options.model)
        return CARD.format(
            title=f"{options.model}, fine-tuned by hand" if origin else "GPT-2, trained by hand",
            base=f"base_model: {origin.repository}\n" if origin else "",
            parameters=sum(p.numel() for p in run.model.parameters()),
            shape=f"{config.n_layers} blocks, width {config.emb_dim}, {config.n_heads} heads, "
            f"context {config.context_length}",
            start=_start(options, facts["start_sha256"], origin),
            load=load.format(folder=json.dumps(folder, ensure_ascii=False)),
            message=_message(held_out),
            style=run.style.name,
            rows=", ".join(f"{n:,} {name}" for name, n in rows.items()),
            data_sha256=facts["data_sha256"],
            loss_on=options.loss_on,
            trained=TRAINED[options.method].format(**vars(options)),
            steps=_steps(settings, rows["train"], options),
            batch_size=options.batch_size * options.accumulation_steps,
            lr=settings["peak_lr"],
            optimizer=OPTIMIZERS[options.chosen_optimizer],
            dtype=settings["dtype"],
            seed=settings["seed"],
            python=versions["python"],
            torch=versions["torch"],
            scores=_table(scores, rows["test"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"{run.folder}: config.json, scores.json or responses.json is not as this version "
            f"writes it ({error!r})"
        ) from error


def _start(options, sha256, origin):
    if sha256 is None:
        return "It started from random weights: it knows the words of its data, and no others."
    # a path of the machine that it was made on is nobody's business
    where = origin.repository if origin else PurePath(options.model).name
    return f"It started from `{where}` (sha256 of the weights `{sha256}`)."


def _steps(settings, n_rows, options):
    """How often the weights changed, and how much of the data that was."""
    epoch = math.ceil(math.ceil(n_rows / options.batch_size) / options.accumulation_steps)
    steps = min(settings["num_epochs"] * epoch, settings["max_steps"] or math.inf)
    return f"{steps:,} steps ({steps / epoch:.3g} epochs)"


def _message(held_out):
    """A message in Python, of a held-out entry where that can stand in the card's code."""
    entries = [e for e in held_out or [] if "`" not in e["instruction"] + e.get("input", "")]
    entry = entries[0] if entries else {"instruction": "Name a colour."}
    message = {"role": "user", "content": entry["instruction"]}
    if entry.get("input"):
        message["input"] = entry["input"]
    return json.dumps(message, ensure_ascii=False)


def _table(scores, n_held_out):
    if scores is None:
        if n_held_out == 0:
            return "No rows were held out, so nothing is known of it."
        return f"{n_held_out:,} rows were held out, but it has not answered them yet."
    lines = ["| measured | share | 95 % interval |", "| --- | --- | --- |"]
    for name in ("exact_match", "token_f1", "rouge_l", "stopped"):
        low, high = scores[f"{name}_interval"]
        lines.append(f"| {name} | {scores[name]:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + (
        f"\n\nMeasured on {scores['n']:,} rows held out from the same file, with greedy choice. "
        "How it answers anything\nelse is not known."
    )
