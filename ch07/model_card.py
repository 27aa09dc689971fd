"""The README.md of an exported model: what made it, how well it answers, how to ask it.

The one idea: every number comes from the run folder, so a card can't promise more than was
measured. Source of the form: Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from ch07.hub import PUBLISHED
from ch07.options import FinetuneOptions

OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon and AdamW"}

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
language: en
tags: [gpt2, instruction-tuning]
{base}---

# {title}

A GPT-2 with {parameters:,} parameters ({shape}), fine-tuned to answer single instructions.
{start}

## How to ask it

```python
from transformers import pipeline

generate = pipeline("text-generation", "{folder}")
message = {{"role": "user", "content": "{instruction}"{context}}}
print(generate([message], return_full_text=False)[0]["generated_text"])
```

The chat template in this folder writes the prompt as in training (style "{style}"). What an
instruction works on goes into a key `input` of the message. The model answers one question at a
time: it has seen neither conversations nor system messages. If your text itself may hold
`<|endoftext|>`, tokenize with `split_special_tokens=True`; in training it was ordinary text.

## How it was made

| | |
| --- | --- |
| data | {rows} |
| sha256 of the data file | `{data_sha256}` |
| loss on | {loss_on} |
| training | {epochs} epochs of batches of {batch_size}, peak learning rate {lr}, {optimizer} |
| numbers | {dtype}, seed {seed} |
| versions | Python {python}, PyTorch {torch} |

## How well it answers

{scores}
It was measured on rows held out from the same file, with greedy choice. How it answers anything
else is not known.
"""


def model_card(run, n_parameters, scores=None, example=None, folder="FOLDER"):
    """The text, from a `Run`, the contents of its scores.json and one held-out entry, if any."""
    config, facts, options = run.model.config, run.config["facts"], run.config["options"]
    settings, example = run.config["settings"], example or {"instruction": "Name a colour."}
    origin = PUBLISHED.get(options["model"])
    text = CARD.format(
        title=f"{options['model']}, fine-tuned by hand" if origin else "GPT-2, trained by hand",
        base=f"base_model: {origin.repository}\n" if origin else "",
        parameters=n_parameters,
        shape=f"{config.n_layers} blocks, width {config.emb_dim}, {config.n_heads} heads, "
        f"context {config.context_length}",
        start=_start(options["model"], facts, origin),
        folder=folder,
        instruction=_quoted(example["instruction"]),
        context=f', "input": "{_quoted(example["input"])}"' if example.get("input") else "",
        style=run.style.name,
        rows=", ".join(f"{n:,} {name}" for name, n in facts.get("rows", {}).items()),
        data_sha256=facts.get("data_sha256"),
        loss_on=options.get("loss_on"),
        epochs=settings.get("num_epochs"),
        batch_size=options.get("batch_size"),
        lr=settings.get("peak_lr"),
        optimizer=OPTIMIZERS[FinetuneOptions(**options).chosen_optimizer],
        dtype=settings.get("dtype"),
        seed=settings.get("seed"),
        python=facts.get("versions", {}).get("python"),
        torch=facts.get("versions", {}).get("torch"),
        scores=_table(scores),
    )
    return text


def _start(model, facts, origin):
    if facts.get("start_sha256") is None:
        return "It started from random weights: it knows the words of its data, and no others."
    where = f"`{origin.repository}`" if origin else f"`{model}`"
    return f"It started from {where} (sha256 of the weights `{facts['start_sha256']}`)."


def _table(scores):
    if scores is None:
        return "No rows were held out, so nothing is known of it.\n"
    lines = ["| measured | share | 95 % interval |", "| --- | --- | --- |"]
    for name in ("exact_match", "token_f1", "rouge_l", "stopped"):
        low, high = scores[f"{name}_interval"]
        lines.append(f"| {name} | {scores[name]:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join([*lines, "", f"{scores['n']:,} held-out rows.", ""])


def _quoted(text):
    """As it stands between double quotes in Python."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
