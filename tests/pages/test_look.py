"""The page that looks inside a model: what it computes is what Python computes."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from browser import open_browser, open_page, serious_faults

from ch07.commands.cli import main
from ch07.data.byte_pair_vocabulary import ModelTokenizer, Vocabulary, add_marks, gpt2_vocabulary
from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.prompt_styles import CHATML_STYLE, STYLES
from ch07.data.token_text import token_text
from ch07.data.tokenizer import end_token_id
from ch07.generation.decoding import generate
from ch07.models.architectures import read_shape
from ch07.models.attention_weights import logits_and_attention
from ch07.models.saved_run import Run, load_run
from ch07.pages.look_data import LookOptions, choose_answers, look_page
from ch07.pages.look_data import tokenizer_facts as facts_of
from ch07.pages.look_readings import TEMPERATURES
from ch07.pages.look_weights import base64_of_float16, round_weights, weights_block
from ch07.pages.one_file import PAGES
from ch07.pages.style_pieces import style_pieces
from ch07.utils.errors import InputError, OptionError, RunFolderError
from gpt_model import GPTModel
from instruction_dataset import BOOK_STYLE, encode_prompt, split_at_marks

SCRIPTS = ("look/float16.js", "look/gpt.js", "look/llama.js", "look/reading.js", "look/prompt.js")
SCRIPTS += ("tokenizer.js", "white_space.js", "look/model.js")
HOSTILE = "</script><img src=x onerror=document.title=1> & \u2028 你好 🙂 <|endoftext|>"
ENTRIES = [
    {"instruction": "Name a colour.", "input": "", "output": "Red", "model_response": "Red"},
    {"instruction": "Add.", "input": "2 and 3", "output": "5", "model_response": "six"},
    {"instruction": HOSTILE, "input": HOSTILE, "output": HOSTILE, "model_response": HOSTILE},
]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def scripts(browser):
    """A page with the scripts that compute, and nothing else."""
    with open_page(browser, "about:blank") as page:
        for name in SCRIPTS:
            page.add_script_tag(content=(PAGES / name).read_text(encoding="utf-8"))
        yield page


def make_run(folder, entries, *, tokenizer, style=BOOK_STYLE, **options):
    """A run of a narrow GPT-2 with random weights, as it would be loaded."""
    shape = {"vocab_size": tokenizer.n_vocab, "context_length": 256, "emb_dim": 8, "n_layers": 2}
    model = GPTModel({**shape, "n_heads": 2}, torch.Generator().manual_seed(1))
    with torch.no_grad():  # so that next tokens differ in probability
        for weight in model.parameters():
            weight.mul_(8)
    config = {"options": {"method": "full", "loss_on": "response", **options}}
    folder.mkdir(exist_ok=True)
    (folder / "responses.json").write_text(json.dumps(entries), encoding="utf-8")
    return Run(str(folder), model.eval(), tokenizer, style, None, folder, config)


def write_page(run, notes=None, **options):
    path = run.folder / "look.html"
    report = (lambda text: None) if notes is None else notes.append
    path.write_text(look_page(run, LookOptions(**options), report), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def small_run(tmp_path_factory, tokenizer):
    return make_run(tmp_path_factory.mktemp("look") / "small", ENTRIES, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def address(small_run):
    return write_page(small_run)


def until(page, code, value=True):
    """Wait until an expression has a value; Playwright's own way is against the page's policy."""
    for _ in range(600):
        found = page.evaluate(code)
        if found == value:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{code} is {found}, not {value}")


def settle(page, prompt=None):
    """Wait until the page is ready and, if named, shows a text that begins with this prompt."""
    page.evaluate("lookPage.ready")
    page.locator("#next li").first.wait_for()
    if prompt is not None:
        until(page, "lookPage.view.ids.slice(0, lookPage.view.nPrompt)", prompt)


def float16_steps(halves):
    """The distance to the next float16, from where its exponent is."""
    numbers = np.abs(halves.numpy().astype(np.float64))
    _, exponents = np.frexp(np.where(numbers == 0, 2.0**-14, numbers))
    return 2.0 ** (np.maximum(exponents - 1, -14) - 10)


# --- weights --------------------------------------------------------------------------------------
def test_every_float16_is_decoded_as_numpy_decodes_it(scripts):
    expected = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    found = scripts.evaluate(
        "text => Array.from(numbersFromFloat16(bytesFromBase64(text)))",
        base64_of_float16([torch.from_numpy(expected)]),
    )
    both = np.array(found, dtype=np.float32)
    np.testing.assert_array_equal(both, expected)
    assert np.array_equal(np.signbit(both[0x8000]), np.signbit(expected[0x8000]))  # -0


def test_a_remainder_leaves_a_512th_of_a_float16_step():
    stream = torch.Generator().manual_seed(0)
    scales = 2.0 ** torch.randint(-30, 16, (4000,), generator=stream)
    weights = torch.randn(4000, generator=stream) * scales
    weights = torch.cat([weights.clamp(-65504, 65504), torch.tensor([0.0, 2.0**-25, 65504.0])])
    halves, remainders = round_weights(weights)
    step = float16_steps(halves)
    decoded = halves.numpy().astype(np.float64) + remainders.numpy() * step / 256
    assert np.all(np.abs(decoded - weights.numpy()) <= step / 256)
    inner = np.abs(remainders.numpy().astype(int)) < 127
    assert inner.mean() > 0.98
    assert np.all(np.abs(decoded - weights.numpy())[inner] <= step[inner] / 512)


@pytest.mark.parametrize("bits", [16, 24])
def test_the_page_decodes_the_weights_that_were_stored(scripts, small_model, bits):
    block = weights_block(small_model, bits)
    found = scripts.evaluate("block => Array.from(modelFromData(block).tok_emb)", block)
    halves, remainders = round_weights(small_model.tok_emb.weight.detach().flatten())
    expected = halves.double()
    if bits == 24:
        expected = expected + remainders * torch.from_numpy(float16_steps(halves)) / 256
    assert found == expected.float().tolist()
    assert read_shape(block["config"]) == small_model.config


@pytest.mark.parametrize("value", [65505.0, 1e30, float("inf"), float("nan")])
def test_a_weight_beyond_float16_is_refused(small_model, value):
    with torch.no_grad():
        small_model.final_norm.weight[3] = value
    with pytest.raises(InputError, match=r"final_norm\.weight has a weight of .*--answers-only"):
        weights_block(small_model, 24)


# --- the forward pass -----------------------------------------------------------------------------
READ = """([block, ids, cuts]) => {
  const reading = new Reading(modelFromData(block));
  cuts.forEach((cut, i) => reading.read(ids.slice(cuts[i - 1] ?? 0, cut)));
  return {
    logits: ids.map((_, place) => Array.from(reading.logitsAfter(place))),
    attention: reading.attention.map((rows) => rows.map((row) => Array.from(row))),
    judgements: reading.judgements(0),
    next: reading.greedyNext(),
  };
}"""


def read_in_page(scripts, model, ids, *, bits=24, cuts=None):
    return scripts.evaluate(READ, [weights_block(model, bits), ids, cuts or [len(ids)]])


def random_ids(model, n, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.vocab_size, (n,), generator=stream).tolist()


@pytest.mark.parametrize("n", [1, 2, 13, 32])
def test_logits_are_those_of_python(scripts, small_model, n):
    ids = random_ids(small_model, n, seed=n)
    found = torch.tensor(read_in_page(scripts, small_model, ids)["logits"])
    with torch.no_grad():
        expected = small_model(torch.tensor([ids]))[0]
    assert (found - expected).abs().max() < 2e-4
    assert found.argmax(-1).tolist() == expected.argmax(-1).tolist()


def test_with_16_bits_logits_are_those_of_the_rounded_weights(scripts, small_model):
    ids = random_ids(small_model, 20)
    found = torch.tensor(read_in_page(scripts, small_model, ids, bits=16)["logits"])
    with torch.no_grad():
        for weight in small_model.parameters():
            weight.copy_(weight.half().float())
        expected = small_model(torch.tensor([ids]))[0]
    assert (found - expected).abs().max() < 5e-5


def test_a_head_of_its_own_and_layers_without_biases(scripts):
    shape = {"vocab_size": 50, "context_length": 16, "emb_dim": 12, "n_layers": 2, "n_heads": 3}
    model = GPTModel({**shape, "tied_head": False, "qkv_bias": False}).eval()
    ids = random_ids(model, 16)
    found = torch.tensor(read_in_page(scripts, model, ids)["logits"])
    with torch.no_grad():
        assert torch.allclose(found, model(torch.tensor([ids]))[0], atol=1e-5)


def test_late_positions_are_rotated_as_in_python(scripts):
    from ch07.models.llama import LlamaModel

    shape = {"vocab_size": 20, "context_length": 4096, "emb_dim": 16, "n_layers": 1, "n_heads": 1}
    more = {"n_kv_heads": 1, "hidden_dim": 8, "rope_theta": 1e5}
    model = LlamaModel({**shape, **more}, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10)
    ids = random_ids(model, 1500)
    code = """([block, ids]) => {
      const reading = new Reading(modelFromData(block));
      reading.read(ids);
      return Array.from(reading.logitsAfter(ids.length - 1));
    }"""
    found = torch.tensor(scripts.evaluate(code, [weights_block(model, 24), ids]))
    with torch.no_grad():
        assert torch.allclose(found, model(torch.tensor([ids]))[0, -1], atol=1e-3)


@pytest.mark.parametrize("cuts", [[1, 2, 3, 20], [7, 20], [19, 20]])
def test_reading_on_equals_reading_at_once(scripts, small_model, cuts):
    ids = random_ids(small_model, 20)
    at_once = read_in_page(scripts, small_model, ids)
    in_parts = read_in_page(scripts, small_model, ids, cuts=cuts)
    assert torch.allclose(torch.tensor(at_once["logits"]), torch.tensor(in_parts["logits"]))
    for one, other in zip(at_once["attention"], in_parts["attention"], strict=True):
        for row, other_row in zip(one, other, strict=True):
            assert np.allclose(row, other_row, atol=1e-6)


def test_attention_weights_are_those_of_python(scripts, small_model):
    ids = random_ids(small_model, 20)
    _, expected = logits_and_attention(small_model, ids)
    found = read_in_page(scripts, small_model, ids)["attention"]
    for layer, rows in zip(expected, found, strict=True):
        for token, row in enumerate(rows):
            weights = torch.tensor(row, dtype=torch.float32).view(-1, token + 1)  # (H, keys)
            assert torch.allclose(weights, layer[:, token, : token + 1], atol=1e-5)
            assert torch.allclose(weights.sum(-1), torch.ones(len(weights)), atol=1e-6)


def test_pythons_weights_give_what_its_attention_gives(small_model):
    """The values, averaged with these weights, are the layer's context."""
    ids = random_ids(small_model, 12)
    contexts = {}
    values = {}
    for layer, block in enumerate(small_model.trf_blocks):
        block.att.out_proj.register_forward_pre_hook(
            lambda _, given, layer=layer: contexts.update({layer: given[0][0]})
        )
        block.att.W_value.register_forward_hook(
            lambda _, __, result, layer=layer: values.update({layer: result[0]})
        )
    small_model.train()
    logits, attention = logits_and_attention(small_model, ids)
    assert small_model.training
    with torch.no_grad():
        assert torch.equal(logits, small_model.eval()(torch.tensor([ids]))[0])
    for layer, weights in enumerate(attention):
        H = len(weights)
        value = values[layer].view(12, -1, small_model.config.head_size).transpose(0, 1)
        value = value.repeat_interleave(H // len(value), dim=0)  # (H, T, D)
        context = (weights @ value).transpose(0, 1).reshape(12, -1)
        assert torch.allclose(context, contexts[layer], atol=1e-5)
        assert torch.equal(weights.triu(diagonal=1), torch.zeros_like(weights))


def test_losses_and_ranks_are_those_of_torch(scripts, small_model):
    ids = random_ids(small_model, 30)
    first, *judged = read_in_page(scripts, small_model, ids)["judgements"]
    with torch.no_grad():
        logits = small_model(torch.tensor([ids]))[0]
    targets = torch.tensor([*ids[1:], 0])
    expected = F.cross_entropy(logits, targets, reduction="none")
    assert first is None
    assert np.allclose([one["loss"] for one in judged], expected, atol=1e-4)
    order = logits.argsort(dim=-1, descending=True)
    ranks = (order == targets[:, None]).int().argmax(-1) + 1
    assert [one["rank"] for one in judged] == ranks.tolist()
    assert [one["best"] for one in judged] == logits.argmax(-1).tolist()
    best = logits.softmax(-1).max(-1).values
    assert np.allclose([one["bestProbability"] for one in judged], best, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0])
def test_next_tokens_at_a_temperature(scripts, small_model, temperature):
    ids = random_ids(small_model, 10)
    code = """([block, ids, right, temperature]) => {
      const reading = new Reading(modelFromData(block));
      reading.read(ids);
      return reading.predict(4, right, temperature);
    }"""
    arguments = [weights_block(small_model, 24), ids, ids[5], temperature]
    found = scripts.evaluate(code, arguments)
    with torch.no_grad():
        logits = small_model(torch.tensor([ids]))[0, 4]
    probabilities = (logits / temperature).softmax(-1)
    top = probabilities.topk(10)
    assert [next["id"] for next in found["top"]] == top.indices.tolist()
    assert np.allclose([next["probability"] for next in found["top"]], top.values, atol=1e-4)
    assert found["right"]["probability"] == pytest.approx(float(probabilities[ids[5]]), abs=1e-4)


def test_of_equal_logits_the_smaller_id_is_first(scripts):
    logits = "new Float32Array([1, 3, 3, 2, 3])"
    assert scripts.evaluate(f"topIds({logits}, 4)") == [1, 2, 4, 3]
    assert scripts.evaluate(f"[0, 1, 2, 3, 4].map((id) => rankOf({logits}, id))") == [5, 1, 2, 4, 3]


def test_greedy_answers_of_a_trained_run_are_those_of_python(browser, run, tmp_path):
    """Fifty prompts, token by token."""
    page_file = tmp_path / "look.html"
    assert main(["look", str(run), "--out", str(page_file), "--device", "cpu"]) == 0
    loaded = load_run(run)
    rows = json.loads((run / "responses.json").read_text(encoding="utf-8"))
    entries = [
        row | {"instruction": f"{row['instruction']} {i}"} for i in range(10) for row in rows
    ]
    prompts = [encode_chat_prompt(entry, loaded.tokenizer, loaded.style) for entry in entries[:50]]
    assert len(prompts) == 50
    code = """async ([prompts, end]) => {
      const answers = [];
      for (const ids of prompts) {
        const answer = [];
        await lookPage.model.ask("generate", { ids, end, limit: 12 }, (id) => answer.push(id));
        answers.push(answer);
      }
      return answers;
    }"""
    with open_page(browser, page_file.as_uri()) as page:
        settle(page)
        found = page.evaluate(code, [prompts, end_token_id(loaded.tokenizer)])
    assert found == generate(loaded.model, prompts, 12)
    assert any(found)


# --- text -----------------------------------------------------------------------------------------
def own_vocabulary(words):
    """A vocabulary as SmolLM2's is: marks first, then bytes, and few merges; a byte is missing."""
    gpt2 = gpt2_vocabulary()
    marks = {"<|im_start|>": 0, "<|im_end|>": 1, "qwertz": 2}  # one looks like a word
    letters = [token for token in gpt2.tokens[:256] if token != gpt2.tokens[200]]
    made = [token for token in gpt2.tokens[256:1500] if gpt2.tokens[200] not in token]
    merges = [pair for pair in gpt2.merges[:1244] if gpt2.tokens[200] not in pair]
    return Vocabulary([*marks, *letters, *made], merges, marks, words, "<|im_end|>")


TEXTS = [
    "qwertz",
    "Below is an instruction that describes a task. 12 345\n\n  7 x9 \n 8\t\t9  ",
    "it's WE'LL <|im_start|> <|im_end|> 你好\uff0c世界 🙂 é\u0301 \x0c\x1f\x85\u2003a",
    "".join(map(chr, range(1, 400))),
]


@pytest.mark.parametrize("words", ["gpt-2", "smollm"])
def test_a_vocabulary_of_the_models_own(scripts, words, tmp_path):
    tokenizer = ModelTokenizer(own_vocabulary(words))
    assert tokenizer.missing_bytes
    run = make_run(tmp_path / "own", [], tokenizer=tokenizer)
    code = """([vocabulary, texts]) => {
      const tokenizer = makeTokenizer("", vocabulary);
      return texts.map((text) => {
        const ids = tokenizer.encode(text);
        return [ids, tokenizer.decode(ids), ids.map((id) => tokenizer.piece(id))];
      });
    }"""
    found = scripts.evaluate(code, [facts_of(run)["vocabulary"], TEXTS])
    for text, (ids, decoded, pieces) in zip(TEXTS, found, strict=True):
        assert ids == tokenizer.encode_ordinary(text)
        assert decoded == tokenizer.decode(ids)
        assert pieces == [token_text(i, tokenizer, tokenizer.eot_token) for i in ids]
    marks = scripts.evaluate(
        "vocabulary => [0, 1].map((id) => makeTokenizer('', vocabulary).piece(id))",
        facts_of(run)["vocabulary"],
    )
    assert marks == ["<|im_start|>", "<END>"]


ENCODE = """([style, facts, merges, entries]) => {
  const tokenizer = makeTokenizer(merges, facts.vocabulary);
  return entries.map(({ instruction, input }) =>
    encodeParts(promptParts(style, instruction, input), tokenizer, facts.marks));
}"""


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("with_marks", [False, True])
def test_prompts_have_the_ids_of_training(scripts, tokenizer, tmp_path, name, with_marks):
    from ch07.pages.look_data import merges_text

    marks = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|im_end|>x"]
    own = add_marks(tokenizer, marks) if with_marks else tokenizer
    run = make_run(tmp_path / "style", [], tokenizer=own, style=STYLES[name])
    entries = [
        {"instruction": "Add {the} numbers.", "input": " \u2003\x1f\n"},
        {"instruction": "<|im_start|>user", "input": "<|im_end|> x <|endoftext|>"},
        {"instruction": HOSTILE, "input": HOSTILE},
        {"instruction": "<|im_start|>", "input": "<|eot_id|>"},
    ]
    arguments = [style_pieces(run.style), facts_of(run), merges_text(run), entries]
    found = scripts.evaluate(ENCODE, arguments)
    assert found == [encode_prompt(entry, own, run.style) for entry in entries]


def test_marks_and_white_space_as_in_python(scripts):
    marks = ["<|a|>", "<|a|>b", "|>", "<|c|>"]
    for text in ("<|a|>b<|a|>c|><|c|>", "no mark", "", "<|a|><|a|>", "|>|>x"):
        found = scripts.evaluate("([text, marks]) => splitAtMarks(text, marks)", [text, marks])
        assert found == list(split_at_marks(text, frozenset(marks)))
    letters = [chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000]
    texts = [f"{letter}a b{letter}{letter}" for letter in [*letters, "\ufeff"]]
    assert scripts.evaluate("texts => texts.map(stripped)", texts) == [
        text.strip() for text in texts
    ]


def test_in_a_whole_prompt_the_marks_of_the_template_are_marks(scripts, tokenizer, tmp_path):
    own = add_marks(tokenizer, ["<|im_start|>", "<|im_end|>"])
    run = make_run(tmp_path / "marks", [], tokenizer=own, style=CHATML_STYLE)
    code = """([style, facts, text]) => {
      const tokenizer = makeTokenizer("", facts.vocabulary);
      const marks = marksOfStyle(style, facts.marks);
      return encodeParts(partsOfWholePrompt(text), tokenizer, marks);
    }"""
    entry = {"instruction": "Name a colour."}
    text = run.style.prompt(entry)
    found = scripts.evaluate(code, [style_pieces(run.style), facts_of(run), text])
    assert found == encode_prompt(entry, own, run.style)
    found = scripts.evaluate(code, [style_pieces(run.style), facts_of(run), "<|endoftext|>"])
    assert found == own.encode_ordinary("<|endoftext|>")  # no mark of this template


# --- the page -------------------------------------------------------------------------------------
def test_it_shows_what_python_computes(browser, address, small_run):
    model = small_run.model
    tokenizer = small_run.tokenizer
    with open_page(browser, address) as page:
        settle(page)
        assert page.text_content("h1") == "Look inside small"
        assert "2 of the 3 held-out answers are right." in page.text_content("#run-facts")
        for number, entry in enumerate(ENTRIES):
            page.locator("#question-list li").nth(number).click()
            prompt = encode_prompt(entry, tokenizer)
            ids = [*prompt, *tokenizer.encode_ordinary(entry["model_response"])]
            until(page, "lookPage.view.ids", ids)
            assert page.evaluate("lookPage.view.nPrompt") == len(prompt)
            pieces = [token_text(i, tokenizer, 50256) for i in [*ids, 50256]]
            assert page.locator("#tokens li").all_text_contents() == pieces
            with torch.no_grad():
                losses = F.cross_entropy(
                    model(torch.tensor([ids]))[0], torch.tensor([*ids[1:], 50256]), reduction="none"
                )
            label = page.locator("#tokens li").nth(len(ids)).get_attribute("aria-label")
            assert label == f"<END>, loss {losses[-1]:.2f}"
            page.locator("#table-details summary").click()
            rows = page.locator("#table-rows tr").all_text_contents()
            page.locator("#table-details summary").click()
            assert len(rows) == len(ids) + 1
            assert f"{losses[0]:.3f}" in rows[1]
        assert page.title() == "Look inside small"
        assert page.locator("img").count() == 0


@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"width": 360}]
)
def test_it_is_accessible_and_fits(browser, address, options):
    width = options.pop("width", 1400)
    with open_page(browser, address, viewport={"width": width, "height": 800}, **options) as page:
        settle(page)
        page.locator("#table-details summary").click()
        page.locator("#as-read summary").click()
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_suffices(browser, address, tokenizer):
    with open_page(browser, address) as page:
        settle(page)
        page.focus("#search")
        for _ in range(2):  # past the choice of answers, to the list
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.role") == "option"
        page.keyboard.press("ArrowDown")
        assert page.input_value("#instruction") == "Add."
        settle(page, encode_prompt(ENTRIES[1], tokenizer))
        page.locator("#tokens [aria-selected=true]").focus()
        page.keyboard.press("Home")
        assert page.text_content("#token-line").startswith("Token 1 of ")
        page.keyboard.press("ArrowRight")
        assert page.text_content("#token-line").startswith("Token 2 of ")
        page.keyboard.press("End")
        assert "<END>" in page.text_content("#token-line")
        assert "the text ends" in page.text_content("#next-note")
        page.locator("#heads [aria-selected=true]").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        assert page.input_value("#layer") == "1" and page.input_value("#head") == "1"
        page.keyboard.press("ArrowRight")  # the last one: stays
        assert page.input_value("#head") == "1"


def test_an_edited_prompt_is_read(browser, address, small_run):
    with open_page(browser, address) as page:
        settle(page)
        page.fill("#instruction", "Name two colours.")
        entry = {"instruction": "Name two colours.", "input": ""}
        expected = encode_prompt(entry, small_run.tokenizer)
        settle(page, expected)
        assert page.is_disabled("#right-answer")
        page.check("[name=mode][value=whole]")
        assert page.input_value("#whole") == small_run.style.prompt(entry)
        page.fill("#whole", "Red, green and")
        page.fill("#answer", " blue")
        ids = small_run.tokenizer.encode_ordinary("Red, green and blue")
        until(page, "lookPage.view.ids", ids)
        page.fill("#whole", "")
        page.get_by_text("The prompt is empty: type one.").wait_for()
        page.fill("#whole", "word " * 300)
        page.get_by_text("302 tokens, but this page reads at most 256: shorten").wait_for()


def test_generation_goes_token_by_token_and_can_be_stopped(browser, address, small_run):
    prompt = encode_prompt(ENTRIES[1], small_run.tokenizer)
    expected = generate(small_run.model, [prompt], 256)[0]
    with open_page(browser, address) as page:
        settle(page)
        page.locator("#question-list li").nth(1).click()
        page.fill("#answer", "")
        page.click("#one-token")
        page.get_by_text("1 token generated").wait_for()
        assert page.evaluate("lookPage.answerIds") == expected[:1]
        page.click("#one-token")
        until(page, "lookPage.view.ids", [*prompt, *expected[:2]])
        page.click("#generate")
        page.get_by_text("tokens generated").wait_for()
        assert page.evaluate("lookPage.answerIds") == expected
        assert page.input_value("#answer") == small_run.tokenizer.decode(expected)
        code = """async () => {
          let n = 0;
          const details = { ids: [1, 2], end: -1, limit: 100 };
          const result = lookPage.model.ask("generate", details, () => {
            n += 1;
            if (n === 3) {
              lookPage.model.ask("stop");
            }
          });
          return [(await result).stopped, n];
        }"""
        stopped, n = page.evaluate(code)
        assert stopped == "reader" and 3 <= n < 100


def test_another_question_ends_generation(browser, address, tokenizer):
    with open_page(browser, address) as page:
        settle(page)
        page.click("#generate")
        page.locator("#question-list li").nth(1).click()
        ids = [*encode_prompt(ENTRIES[1], tokenizer), *tokenizer.encode_ordinary("six")]
        until(page, "lookPage.view.ids", ids)
        page.wait_for_timeout(300)
        assert page.input_value("#answer") == "six"
        assert page.is_enabled("#generate") and page.is_disabled("#stop")


def test_questions_are_searched_and_filtered(browser, address):
    with open_page(browser, address) as page:
        settle(page)
        page.check("[name=shown][value=wrong]")
        assert page.locator("#question-list li").count() == 1
        assert "right: 5" in page.text_content("#question-list li")
        page.check("[name=shown][value=all]")
        page.fill("#search", "COLOUR name")
        assert page.text_content("#found") == "1 question"
        page.fill("#search", "nowhere")
        assert page.text_content("#found") == "0 questions"


def test_it_works_without_workers(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete window.Worker")
    page.goto(address)
    settle(page)
    assert page.locator("#next li").count() == 10
    assert page.evaluate("lookPage.model.constructor.name") == "ModelInPage"
    context.close()


# --- computed answers -----------------------------------------------------------------------------
SHOWN = """async (place) => {
  const { ids, nPrompt, judgements, attention } = lookPage.view;
  const asked = { place, right: ids[place + 1], temperature: 0.7 };
  const rows = attention.flatMap((layer) => layer.flatMap((row) => Array.from(row)));
  return { ids, nPrompt, judgements, rows, next: await lookPage.model.ask("predict", asked) };
}"""


def test_computed_answers_show_what_the_model_in_the_page_shows(browser, small_run):
    prompt = encode_prompt(ENTRIES[1], small_run.tokenizer)
    ids = [*prompt, *small_run.tokenizer.encode_ordinary("5")]
    seen = []
    for answers_only in (False, True):
        address = write_page(small_run, answers_only=answers_only)
        with open_page(browser, address) as page:
            settle(page)
            page.locator("#question-list li").nth(1).click()
            page.click("#right-answer")
            until(page, "lookPage.view.ids", ids)
            assert page.text_content("#verdict") == "✓ The right answer."
            seen.append(page.evaluate(SHOWN, len(prompt) - 1))
            assert page.is_editable("#instruction") != answers_only
            assert page.is_visible("#generate") != answers_only
            assert page.is_visible("#notice") == answers_only
            assert serious_faults(page) == []
    one, other = seen
    assert (one["ids"], one["nPrompt"]) == (other["ids"], other["nPrompt"])
    for a, b in zip(one["judgements"][1:], other["judgements"][1:], strict=True):
        assert a["best"] == b["best"]
        for key in ("loss", "bestProbability"):
            assert a[key] == pytest.approx(b[key], abs=1e-3)
        assert a["rank"] == pytest.approx(b["rank"], rel=0.01)  # near ties may change places
    assert np.allclose(one["rows"], other["rows"], atol=1e-3)
    assert [next["id"] for next in one["next"]["top"]] == [
        next["id"] for next in other["next"]["top"]
    ]
    assert one["next"]["right"]["probability"] == pytest.approx(
        other["next"]["right"]["probability"], abs=1e-4
    )


def test_a_model_that_is_too_large_is_computed_and_said(small_run):
    notes = []
    page = look_page(small_run, LookOptions(max_megabytes=1.0), notes.append)
    assert len(notes) == 1 and "would take 2 MB" in notes[0] and "--max-size" in notes[0]
    assert 'id="readings"' in page and 'id="model"' not in page
    with pytest.raises(OptionError, match=r"the page would have .*--answers"):
        look_page(small_run, LookOptions(max_megabytes=0.1), notes.append)


def test_temperatures_are_the_places_of_the_slider():
    page = (PAGES / "look" / "page.html").read_text(encoding="utf-8")
    assert 'min="0.1" max="2" step="0.1"' in page
    assert TEMPERATURES[0] == 0.1 and TEMPERATURES[-1] == 2.0 and len(TEMPERATURES) == 20


def test_half_of_the_chosen_answers_may_be_wrong():
    entries = [
        {"instruction": str(i), "output": "a", "model_response": "b" if i > 5 else "a"}
        for i in range(10)
    ]
    chosen = [int(entry["instruction"]) for entry in choose_answers(entries, 6)]
    assert chosen == [0, 1, 2, 6, 7, 8]
    assert choose_answers(entries, 50) == choose_answers(entries, None) == entries


def test_conversations_keep_the_ids_of_python(browser, tokenizer, tmp_path):
    chat = {"instruction": "And its plural?", "input": "", "output": "Limes", "system": "Be short."}
    chat["history"] = [{"instruction": "Name a fruit.", "input": "", "output": "Lime"}]
    run = make_run(tmp_path / "chat", [{**chat, "model_response": "Limes"}], tokenizer=tokenizer)
    with open_page(browser, write_page(run)) as page:
        settle(page)
        ids = page.evaluate("lookPage.view.ids.slice(0, lookPage.view.nPrompt)")
        assert ids == encode_chat_prompt(chat, tokenizer)
        assert "Name a fruit." in page.input_value("#whole")
        assert page.is_disabled("[name=mode][value=question]")


def test_a_run_without_answers_begins_with_a_text(browser, tokenizer, tmp_path):
    run = make_run(tmp_path / "plain", [], tokenizer=tokenizer, text=True)
    (run.folder / "responses.json").unlink()
    with open_page(browser, write_page(run)) as page:
        settle(page)
        assert page.input_value("#whole") == "Once upon a time"
        assert not page.is_visible("#questions")
        assert serious_faults(page) == []
    with pytest.raises(RunFolderError, match="no held-out answers"):
        write_page(run, answers_only=True)


def test_a_prefix_and_faulty_answers_are_refused(tokenizer, tmp_path):
    run = make_run(tmp_path / "prefix", ENTRIES, tokenizer=tokenizer, method="prefix")
    with pytest.raises(RunFolderError, match="--method prefix"):
        write_page(run)
    half = "\ud800"
    for faulty in (
        [{"instruction": "a"}],
        [{**ENTRIES[0], "model_response": 5}],
        [{**ENTRIES[0], "model_response": half}],
        [{**ENTRIES[0], "system": 5}],
        [{**ENTRIES[0], "system": half}],
        [{**ENTRIES[0], "history": None}],
        [{**ENTRIES[0], "history": "abc"}],
        [{**ENTRIES[0], "history": [{"instruction": "a"}]}],
        [5],
        {"a": 1},
        None,
    ):
        run = make_run(tmp_path / "faulty", faulty, tokenizer=tokenizer)
        with pytest.raises(RunFolderError, match=r"can't be read: (entry 1|it is not a list)"):
            write_page(run)


def test_a_model_that_computes_no_numbers_is_refused(tokenizer, tmp_path):
    run = make_run(tmp_path / "nan", ENTRIES, tokenizer=tokenizer)
    with torch.no_grad():
        run.model.final_norm.weight[3] = float("nan")
    with pytest.raises(RunFolderError, match="not finite"):
        write_page(run, answers_only=True)
