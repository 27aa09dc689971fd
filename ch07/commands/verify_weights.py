"""Are these the published weights, and does this GPT-2 compute the published results with them?

python -m ch07 verify-weights gpt2-small

The one idea: others have published what GPT-2 computes for given texts: losses, and greedy
continuations. With the weights, anyone can compare our results with theirs.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tiktoken
import torch

from ch07.data.tokenizer import load_tokenizer
from ch07.generation.decoding import generate
from ch07.models.hub_download import PUBLISHED
from ch07.models.pretrained import WeightSource, find_weights
from ch07.models.resource_estimate import answering_bytes, format_bytes
from ch07.models.weight_reader import WeightsError
from ch07.utils.device import available_memory, choose_device
from ch07.utils.exit_codes import EXIT_FAILED
from collate import END_OF_TEXT
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import IGNORE_INDEX, calc_loss_batch

# The first lines of Shakespeare's Coriolanus, as in the file "tiny shakespeare".
CORIOLANUS = """\
First Citizen:
Before we proceed any further, hear me speak.

All:
Speak, speak.

First Citizen:
You are all resolved rather to die than to famish?

All:
Resolved. resolved.

First Citizen:
First, you know Caius Marcius is chief enemy to the people.

All:
We know't, we know't.

First Citizen:
Let us kill him, and we'll have corn at our own price.
Is't a verdict?

All:
No more talking on't; let it be done: away, away!

Second Citizen:
One word, good citizens.

First Citizen:
We are accounted poor citizens, the patricians good.
What authority surfeits on would relieve us: if they
would yield us but the superfluity, while it were
wholesome, we might guess they relieved us humanely;
but they think we are too dear: the leanness that
afflicts us, the object of our misery, is as an
inventory to particularise their abundance; our
sufferance is a gain to them Let us revenge this with
our pikes, ere we become rakes
"""


@dataclass(frozen=True)
class PublishedLoss:
    """A mean loss that somebody published: of `text` after `before`, or of llm.c's batch."""

    source: str
    value: float
    text: str | None = None  # None: the first 4 rows of 64 tokens of Coriolanus
    before: str | None = None  # None: end-of-text, which counts for nothing itself

    def compute(self, model: GPTModel, tokenizer: tiktoken.Encoding) -> float:
        """The loss that this project's model computes."""
        rows, counted_from = self._rows(tokenizer)
        ids = torch.tensor(rows)
        targets = ids[:, 1:].clone()
        targets[:, : counted_from - 1] = IGNORE_INDEX
        device = next(model.parameters()).device
        with torch.inference_mode():
            return calc_loss_batch(ids[:, :-1], targets, model, device).item()

    def _rows(self, tokenizer: tiktoken.Encoding) -> tuple[list[list[int]], int]:
        """(rows of ids, number of the first counted token)."""
        if self.text is None:
            ids = coriolanus_ids(tokenizer)
            return [ids[i : i + 65] for i in range(0, 256, 64)], 1
        encode = tokenizer.encode_ordinary
        before = [END_OF_TEXT] if self.before is None else encode(self.before)
        return [before + encode(self.text)], len(before)


@dataclass(frozen=True)
class PublishedContinuation:
    """The greedy continuation of a prompt that somebody published."""

    source: str
    prompt: str
    continuation: str


def coriolanus_ids(tokenizer: tiktoken.Encoding) -> list[int]:
    """The first 257 tokens, an end-of-text before each speech (llm.c, prepro_tinyshakespeare.py).

    Rows of 64 and the token after each: 4 rows of inputs and targets.
    """
    speeches = CORIOLANUS.rstrip("\n").split("\n\n")
    ids = [
        token
        for speech in speeches
        for token in [END_OF_TEXT, *tokenizer.encode_ordinary(speech + "\n\n")]
    ]
    return ids[:257]


def _mean_loss(probabilities: Sequence[float]) -> float:
    return -sum(math.log(p) for p in probabilities) / len(probabilities)


PUBLISHED_RESULTS: dict[str, list[PublishedLoss | PublishedContinuation]] = {
    "gpt2-small": [
        PublishedLoss("llm.c, test_gpt2.c", 5.270007),
        PublishedLoss(
            "lm-evaluation-harness, tests/test_models.py",
            95.0074 / 17,
            "We study empirical scaling laws for language model performance on the cross-entropy "
            "loss.",
        ),
        PublishedContinuation(
            "transformers, test_modeling_gpt2.py",
            "The dog",
            " was found in a field near the intersection of West and West Streets.\n\nThe dog",
        ),
        PublishedContinuation(
            "picoGPT, README",
            "Alan Turing theorized that computers would one day become",
            " the most powerful machines on the planet.\n\nThe computer is a machine that can "
            "perform complex calculations, and it can perform these calculations in a way that is "
            "very similar to the human brain.",
        ),
    ],
    "gpt2-medium": [
        PublishedContinuation(
            "tinygrad, examples/gpt2.py",
            "What is the answer to life, the universe, and everything?",
            "\n\nThe answer is that we are all one",
        ),
        PublishedContinuation(
            "tinygrad, examples/gpt2.py", "Hello.", " I'm a little late to the party, but"
        ),
    ],
    "gpt2-large": [
        PublishedContinuation(
            "huggingface/blog, introducing-csearch.md",
            "DeepMind Company is",
            " a leading AI research company, with a focus on deep learning and deep "
            "learning-based systems.\n\nThe company's research is focused on",
        ),
    ],
    "gpt2-xl": [
        PublishedContinuation(
            "nlp-with-transformers, chapter 5",
            "Transformers are the",
            " most popular toy line in the world,",
        ),
        PublishedLoss(
            "nlp-with-transformers, chapter 5",
            _mean_loss([0.0853, 0.1678, 0.1063, 0.3438, 0.4628, 0.6599, 0.6926, 0.3973]),
            " most popular toy line in the world,",
            before="Transformers are the",
        ),
    ],
}
TOLERANCE = 2e-3  # the least precise of these numbers is given to three digits


def verify_weights(name: str, path: str | None = None, device: str = "auto") -> int:
    """Print each published result beside what comes out here; returns 0 if all agree, else 1."""
    torch_device = choose_device(device)
    source = _open_weights(name, path, torch_device)
    same_file = path is None or source.sha256() == PUBLISHED[name].sha256
    print(f"{name}: {'the published file' if same_file else 'not the published file'} (sha256)")
    model = source.load().to(torch_device)
    assert isinstance(model, GPTModel)  # only sizes of GPT-2 have published results here
    tokenizer = load_tokenizer()
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters, float32, {torch_device}")
    all_equal = same_file
    for result in PUBLISHED_RESULTS[name]:
        if isinstance(result, PublishedLoss):
            equal, text = _compare_loss(result, model, tokenizer)
        else:
            equal, text = _compare_continuation(result, model, tokenizer)
        print(f"{'equal' if equal else 'DIFFERENT'}: {text} ({result.source})")
        all_equal = all_equal and equal
    if not all_equal:
        print("something differs: see above", file=sys.stderr)
    return 0 if all_equal else EXIT_FAILED


def _open_weights(name: str, path: str | None, device: torch.device) -> WeightSource:
    """The weights of that name, or of a file; WeightsError if they don't fit, or aren't these."""
    config = GPTConfig(**MODEL_SIZES[name])
    needed = answering_bytes(config)
    free = available_memory(device)
    if needed > free:
        raise WeightsError(
            f"{name} needs {format_bytes(needed)}, but {format_bytes(free)} are free"
        )
    source = find_weights(name if path is None else Path(path))
    found = source.config
    if found != config:
        raise WeightsError(
            f"{path} isn't {name}: it has {found.n_layers} blocks of width {found.emb_dim} and "
            f"{found.vocab_size:,} tokens, not {config.n_layers}, {config.emb_dim} and "
            f"{config.vocab_size:,}"
        )
    return source


def _compare_loss(
    published: PublishedLoss, model: GPTModel, tokenizer: tiktoken.Encoding
) -> tuple[bool, str]:
    """(whether the loss here is the published one, both in words)."""
    loss = published.compute(model, tokenizer)
    equal = abs(loss - published.value) < TOLERANCE
    return equal, f"loss {loss:.4f}, published {published.value:.4f}"


def _compare_continuation(
    published: PublishedContinuation, model: GPTModel, tokenizer: tiktoken.Encoding
) -> tuple[bool, str]:
    """(whether the prompt goes on as published, how it goes on in words)."""
    expected_ids = tokenizer.encode_ordinary(published.continuation)
    (ids,) = generate(model, [tokenizer.encode_ordinary(published.prompt)], len(expected_ids))
    text = f"{published.prompt!r} goes on {tokenizer.decode(ids)!r}"
    if ids != expected_ids:
        text += f", published {published.continuation!r}"
    return ids == expected_ids, text
