"""The page of `look`: its size and speed, and how far its logits are from Python's.

    python -m benchmarks.look_page RUN [--prompts 50] [--rounds 5] [--json FILE]

The page is opened in headless Chromium, which the tests use too. "ours" is the page; where there is
a peer, it is the same question asked of Python, in float32 with one thread. Logits are compared at
every position of the held-out prompts and their right answers, all tokens of the vocabulary. How
far other forms of the weights would be off is computed in Python alone.
"""

import base64
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import parser, report, row
from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.tokenizer import end_token_id
from ch07.generation.decoding import generate
from ch07.models.saved_run import load_run
from ch07.pages.look_data import LookOptions, look_page, read_answers
from ch07.pages.look_weights import round_weights, weights_block
from ch07.pages.one_file import PAGES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

NEW_TOKENS = 64  # of an answer
SPEED_TOKENS = 40  # that are generated to measure speed
SCRIPTS = ("float16", "gpt", "llama", "reading")
LOGITS = """ids => {
  const reading = new Reading(model);
  reading.read(ids);
  const logits = model.logits(joinRows(reading.hidden));
  return new Uint8Array(logits.buffer).toBase64();
}"""
ANSWERS = """async ([prompts, end, limit]) => {
  const answers = [];
  for (const ids of prompts) {
    const answer = [];
    await lookPage.model.ask("generate", { ids, end, limit }, (id) => answer.push(id));
    answers.push(answer);
  }
  return answers;
}"""


def with_remainder(weight: Tensor) -> Tensor:
    """A float16 and a byte, as the page stores them: 24 bits."""
    halves, remainders = round_weights(weight)
    exponents = (halves.view(torch.int16).int() >> 10) & 31
    steps = torch.pow(2.0, exponents.clamp(min=1).double() - 25)
    return (halves.double() + remainders * steps / 256).float()


def whole_numbers(weight: Tensor) -> Tensor:
    """16-bit whole numbers times a scale for each row: 16 bits."""
    scale = weight.abs().amax(-1, keepdim=True) / 32767
    return (weight / scale).round() * scale if weight.ndim == 2 else weight


def two_halves(weight: Tensor) -> Tensor:
    """A float16, and a second one for what is left: 32 bits."""
    half = weight.half().float()
    return half + (weight - half).half().float()


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "float16, 16 bits": lambda weight: weight.half().float(),
    "float16 for matrices, float32 else": lambda w: w.half().float() if w.ndim == 2 else w,
    "bfloat16, 16 bits": lambda weight: weight.bfloat16().float(),
    "whole numbers, a scale per row, 16 bits": whole_numbers,
    "float16 and a byte, 24 bits": with_remainder,
    "two float16, 32 bits": two_halves,
}


@torch.inference_mode()
def differences_of_forms(model, texts):
    """{form: the largest difference of a logit from that of the float32 weights}."""
    expected = [model(torch.tensor([ids]))[0] for ids in texts]
    found = {}
    for name, rounded in FORMS.items():
        other = copy.deepcopy(model)
        for weight in other.parameters():
            weight.copy_(rounded(weight))
        pairs = zip(texts, expected, strict=True)
        found[name] = max(
            float((other(torch.tensor([ids]))[0] - logits).abs().max()) for ids, logits in pairs
        )
    return found


@torch.inference_mode()
def difference_in_browser(page, model, reference, texts, bits):
    """The largest difference between the page's logits and those of the model `reference`."""
    page.evaluate("block => { window.model = modelFromData(block); }", weights_block(model, bits))
    largest = 0.0
    for ids in texts:
        data = base64.b64decode(page.evaluate(LOGITS, ids))
        found = torch.frombuffer(bytearray(data), dtype=torch.float32).view(len(ids), -1)
        largest = max(largest, float((found - reference(torch.tensor([ids]))[0]).abs().max()))
    return largest


def rounded_copy(model):
    """The model with its weights rounded to float16."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(weight.half().float())
    return other


def precision_rows(browser, run, texts):
    """The rows about logits."""
    from browser import open_page

    with open_page(browser, "about:blank") as page:
        for name in SCRIPTS:
            script = (PAGES / "look" / f"{name}.js").read_text(encoding="utf-8")
            page.add_script_tag(content=script)
        same = difference_in_browser(page, run.model, rounded_copy(run.model), texts, 16)
        half = difference_in_browser(page, run.model, run.model, texts, 16)
        more = difference_in_browser(page, run.model, run.model, texts, 24)
    rows = [
        row("logits, 16 bits, to Python's with 16 bits", same, None, None),
        row("logits, 16 bits, to Python's in float32", half, None, None),
        row("logits, 24 bits, to Python's in float32", more, None, None),
    ]
    forms = differences_of_forms(run.model, texts)
    return rows + [row(f"in Python: {name}", worst, None, None) for name, worst in forms.items()]


def speed_rows(browser, run, prompts, rounds, folder):
    """The rows about size, seconds and answers."""
    from browser import open_page

    paths = {bits: folder / f"{bits}.html" for bits in (16, 24)}
    for bits, path in paths.items():
        html = look_page(run, LookOptions(bits=bits), lambda text: None)
        path.write_text(html, encoding="utf-8")
    seconds, speed, python_speed, reading, edited = [], [], [], [], []
    for _ in range(rounds):
        started = time.perf_counter()
        with open_page(browser, paths[24].as_uri()) as page:
            page.evaluate("lookPage.ready")
            page.locator("#next li").first.wait_for()
            seconds.append(time.perf_counter() - started)
            details = {"ids": prompts[0], "end": -1, "limit": SPEED_TOKENS}
            told = page.evaluate("details => lookPage.model.ask('generate', details)", details)
            speed.append(told["n"] / told["seconds"])
            reading.append(len(prompts[0]) / told["secondsToRead"])
            started = time.perf_counter()
            page.evaluate("ids => lookPage.model.ask('read', { ids, end: -1 })", prompts[0])
            edited.append(time.perf_counter() - started)
        started = time.perf_counter()
        generate(run.model, [prompts[0]], SPEED_TOKENS, end_id=-1)
        python_speed.append(SPEED_TOKENS / (time.perf_counter() - started))
    median = statistics.median
    rows = [
        row("seconds until the page shows an answer", median(seconds), None, None),
        row("tokens a second, reading", median(reading), None, None),
        row(f"seconds for an edited prompt ({len(prompts[0])} tokens)", median(edited), None, None),
        row("tokens a second, generating", median(speed), median(python_speed), "Python"),
    ]
    for bits, path in paths.items():
        megabytes = path.stat().st_size / 1e6
        equal = equal_answers(browser, run, prompts, path)
        rows.append(row(f"megabytes of the page, {bits} bits", megabytes, None, None))
        what = f"equal greedy answers, {bits} bits"
        rows.append(row(what, equal, len(prompts), "of so many"))
    return rows


def equal_answers(browser, run, prompts, path):
    """To how many of the prompts the page at `path` answers as Python does, token for token."""
    from browser import open_page

    with open_page(browser, path.as_uri()) as page:
        page.evaluate("lookPage.ready")
        answers = page.evaluate(ANSWERS, [prompts, end_token_id(run.tokenizer), NEW_TOKENS])
    expected = [generate(run.model, [prompt], NEW_TOKENS)[0] for prompt in prompts]
    return sum(a == b for a, b in zip(answers, expected, strict=True))


def main():
    """Measure, and print the table."""
    from browser import open_browser

    result = parser(__doc__)
    result.add_argument("run", metavar="RUN")
    result.add_argument("--prompts", type=int, default=50)
    result.add_argument("--rounds", type=int, default=5)
    given = result.parse_args()
    torch.set_num_threads(1)
    run = load_run(given.run)
    entries = read_answers(run)[: given.prompts]
    prompts = [encode_chat_prompt(entry, run.tokenizer, run.style) for entry in entries]
    answers = [run.tokenizer.encode_ordinary(entry["output"]) for entry in entries]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    with open_browser() as browser, tempfile.TemporaryDirectory() as folder:
        rows = speed_rows(browser, run, prompts, given.rounds, Path(folder))
        report(rows)
        rows += precision_rows(browser, run, texts)
    report(rows, given.json)


if __name__ == "__main__":
    main()
