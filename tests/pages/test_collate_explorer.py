"""The collate explorer: each cell is collate.py's, each mistake the museum's, each loss torch's."""

import json
import random
import re
from urllib.parse import urlencode

import pytest
import torch
import torch.nn.functional as F
from browser import open_browser, open_page, serious_faults

from ch07.commands.data_arguments import PAGE_LANGUAGES
from ch07.data.chat_dataset import token_roles
from ch07.data.entries import load_entries
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.exercises.museum.collection import EXHIBITS
from ch07.pages.collate_explorer_data import (
    STYLES,
    collate_explorer_page,
    page_texts,
    token_counts,
)
from ch07.pages.one_file import PAGES
from ch07.utils.errors import DataError
from collate import (
    custom_collate_draft_1,
    custom_collate_draft_2,
    custom_collate_fn,
    custom_collate_response_fn,
)
from instruction_dataset import InstructionDataset

FUNCTIONS = {
    "draft1": custom_collate_draft_1,
    "draft2": custom_collate_draft_2,
    "final": custom_collate_fn,
    "response": custom_collate_response_fn,
}
MUSEUM = {(exhibit.exercise, exhibit.diagnosis): exhibit for exhibit in EXHIBITS}
TEXTS = page_texts()
ENTRIES = load_entries(DATA_FILE)[:60]
HOSTILE = [
    "</script><script>document.title='broken'</script>",
    "<img src=x onerror=\"document.title='broken'\"> & &lt; ]]> {row} {0}",
    "\u2028 \\ ' \" \x00\x1c\x85\ufeff 你好 🙂 <|endoftext|>",
]
OPEN_CASE = [("use", "response"), ("style", "bare"), ("mistake", "end-masked-too")]
OPEN_CASE += [("text", json.dumps(["Name a colour.", "", "Red"])), ("ids", "1,2,3|1")]

# Goes to addresses as links do, and reads what is then shown: of the table and of the grid.
READ_SHOWN = """addresses => {
    const texts = (row) => Array.from(row.cells, (cell) => cell.textContent);
    const piece = (box) => box?.querySelector(".piece")?.textContent ?? "";
    const readCell = (cell) => {
        const boxes = cell.querySelectorAll(".box");
        return {
            row: cell.dataset.row,
            column: cell.dataset.column,
            story: cell.getAttribute("aria-label"),
            input: piece(boxes[0]),
            target: piece(boxes[1]),
            counted: boxes[1]?.classList.contains("counted") ?? false,
            loss: cell.querySelector(".loss")?.textContent ?? "",
            differs: cell.classList.contains("differs"),
        };
    };
    const readAll = (selector, read) => Array.from(document.querySelectorAll(selector), read);
    const readShown = (address) => {
        showAddress(address);
        const isShown = !document.getElementById("shown").hidden;
        return {
            refusal: document.querySelector("#refusal code")?.textContent ?? null,
            faults: readAll(".fault:not(:empty)", (place) => place.textContent),
            table: isShown ? readAll("tbody tr", texts) : [],
            grid: isShown ? readAll(".cell", readCell) : [],
            shown: isShown ? view.shown : null,
            loss: isShown ? view.loss : null,
        };
    };
    const box = document.getElementById("grid-box");
    box.hidden = true; // so that no layout is computed for hundreds of batches
    const all = addresses.map(readShown);
    box.hidden = false;
    return all;
}"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    entries = [{"instruction": text, "input": text, "output": text} for text in HOSTILE]
    page = collate_explorer_page([*entries, *ENTRIES], 5)
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def page(browser, address):
    """One page for all tests that go to addresses of their own."""
    with open_page(browser, address, viewport={"width": 1280, "height": 800}) as opened:
        yield opened


def written(use, rows, options, **more):
    """The part of the address after #; rows are (prompt_length, ids)."""
    parts = [("use", use), *options.items(), *more.items()]
    parts += [("ids", ",".join(map(str, ids)) + f"|{length}") for length, ids in rows]
    return urlencode([*parts, ("rows", len(rows))])


def read_shown(page, *addresses):
    """What the page shows at each address, or at the only one."""
    shown = page.evaluate(READ_SHOWN, list(addresses))
    return shown[0] if len(addresses) == 1 else shown


def random_case(chance):
    """A batch of (prompt_length, ids) and its options; a few of them are to be refused."""
    pad = chance.choice([50256] * 6 + [0, 3, 50000, -1])
    tokens = [*range(6), 50256, pad if pad >= 0 else 7]
    rows = []
    for _ in range(chance.randrange(1, 5)):
        shortest = 0 if chance.random() < 0.03 else 1
        ids = [chance.choice(tokens) for _ in range(chance.randrange(shortest, 8))]
        longest = len(ids) + (chance.random() < 0.02)
        rows.append((chance.randint(0, longest), ids))
    options = {"pad": pad, "ignore": chance.choice([-100] * 6 + [-1, -7, -5, 5])}
    limit = chance.choice([None, None, *range(1, 9), 0 if chance.random() < 0.1 else 3])
    if limit is not None:
        options["max"] = limit
    return rows, options


def collated(function, use, rows, options):
    """(inputs, targets) as lists, targets None in draft 1; of the right function or a wrong one."""
    batch = list(rows) if use == "response" else [list(ids) for _, ids in rows]
    if use == "draft1":
        return function(batch, options["pad"]).tolist(), None
    if use == "draft2":
        inputs, targets = function(batch, options["pad"])
    else:
        limits = (options["ignore"], options.get("max"))
        inputs, targets = function(batch, options["pad"], *limits, device="cpu")
    return inputs.tolist(), targets.tolist()


def check_cells(shown, inputs, targets, ignore, text=TEXTS["en"]):
    """Every row of the table says what the tensors say, and every cell of the grid the same."""
    cells = [(y, x) for y, row in enumerate(inputs) for x in range(len(row))]
    assert [(int(row[0]), int(row[1])) for row in shown["table"]] == cells
    for (y, x), row, cell in zip(cells, shown["table"], shown["grid"], strict=True):
        assert row[3] == str(inputs[y][x])
        assert row[6] == ("" if targets is None else str(targets[y][x]))
        counted = targets is not None and targets[y][x] != ignore
        assert row[7] == text["yes" if counted else "no"]
        assert cell["counted"] == counted
        assert bool(row[8]) == (counted and shown["loss"]["problem"] is None)
        assert [cell["row"], cell["column"]] == row[:2]
        assert [cell["input"], cell["target"], cell["loss"]] == [row[2], row[5], row[8]]
        assert row[2] in cell["story"] and row[3] in cell["story"] and row[8] in cell["story"]


@pytest.mark.parametrize("use", FUNCTIONS)
def test_200_random_batches_are_collate_pys_cell_by_cell(page, use):
    chance = random.Random(use)
    cases = [random_case(chance) for _ in range(200)]
    all_shown = read_shown(page, *[written(use, rows, options) for rows, options in cases])
    n_refused = 0
    for (rows, options), shown in zip(cases, all_shown, strict=True):
        try:
            inputs, targets = collated(FUNCTIONS[use], use, rows, options)
        except ValueError as error:
            assert shown["refusal"] == f"ValueError: {error}"
            assert shown["faults"] == [str(error)]  # beside the field that is wrong
            assert shown["table"] == [] and shown["grid"] == []
            n_refused += 1
            continue
        assert shown["refusal"] is None and shown["faults"] == []
        ignore = -100 if use.startswith("draft") else options["ignore"]
        check_cells(shown, inputs, targets, ignore)
    assert n_refused > 10 or use.startswith("draft")


@pytest.mark.parametrize("use", FUNCTIONS)
def test_no_row_at_all_is_refused(page, use):
    refusal = read_shown(page, written(use, [], {}))["refusal"]
    assert refusal.startswith("ValueError: max()") or refusal == "ValueError: empty batch"


def mistakes(page):
    return page.evaluate("MISTAKES.map(({ key, of, seen, show }) => ({ key, of, seen, show }))")


def exhibit_of(mistake):
    return MUSEUM[FUNCTIONS[mistake["of"]].__name__, mistake["key"]]


def test_the_mistakes_are_the_museums(page):
    found = mistakes(page)
    assert len(found) >= 15 and {mistake["of"] for mistake in found} == set(FUNCTIONS)
    for mistake in found:
        exhibit = exhibit_of(mistake)
        assert mistake["seen"] == exhibit.url
        assert TEXTS["en"][f"effect.{mistake['key']}"] == exhibit.story


def test_each_mistake_does_what_its_exhibit_does(page):
    for mistake in mistakes(page):
        use = mistake["of"]
        key = mistake["key"]
        cases = accepted_cases(use, key, 3 if key == "pad-fixed-length" else 10)
        addresses = [written(use, rows, options, mistake=key) for rows, options, _ in cases]
        n_different = 0
        for (rows, options, right), shown in zip(cases, read_shown(page, *addresses), strict=True):
            wrong = collated(exhibit_of(mistake).code, use, rows, options)
            assert (shown["shown"]["inputs"], shown["shown"]["targets"]) == wrong, key
            marked = {(int(c["row"]), int(c["column"])) for c in shown["grid"] if c["differs"]}
            assert marked == different_places(right, wrong)
            assert all(c["differs"] == ("Right would be: " in c["story"]) for c in shown["grid"])
            if marked:  # the table's last column says what would be right
                for cell, row in zip(shown["grid"], shown["table"], strict=True):
                    assert cell["story"].endswith(f"Right would be: {row[9]}.") == cell["differs"]
            n_different += bool(marked)
        assert n_different > 0, key


def accepted_cases(use, seed, n):
    """Random batches that the right function accepts: (rows, options, its result)."""
    cases = []
    chance = random.Random(seed)
    while len(cases) < n:
        rows, options = random_case(chance)
        try:
            cases.append((rows, options, collated(FUNCTIONS[use], use, rows, options)))
        except ValueError:
            continue
    return cases


def different_places(right, wrong):
    """The places of the first 128 columns that differ between two results, or that one lacks."""
    places = set()
    for one, other in zip(right, wrong, strict=True):
        for y, (row, other_row) in enumerate(zip(one or [], other or [], strict=True)):
            for x in range(min(max(len(row), len(other_row)), 128)):
                if row[x : x + 1] != other_row[x : x + 1]:
                    places.add((y, x))
    return places


def test_a_token_keeps_its_role_where_a_mistake_moves_it(page):
    rows = [(2, [1, 2, 3, 4]), (1, [5, 6])]
    roles = "view.cells.map((row) => row.map((cell) => [cell.inputRole, cell.targetRole]))"
    token, end, pad = "token", "end", "padding"
    expected = {
        "pad-left": [[(token, "")] * 4, [(pad, "")] * 2 + [(token, "")] * 2],
        "no-shift": [[(token, token)] * 4, [(token, token)] * 2 + [(pad, end), (pad, pad)]],
        "shift-backwards": [
            [(token, end), *[(token, token)] * 3],
            [(token, end), (token, token), (pad, token), (pad, end)],
        ],
        "roll-wraps": [
            [(token, token)] * 4,
            [(token, token), (token, end), (pad, pad), (pad, token)],
        ],
        "double-shift": [
            [(token, token)] * 2 + [(token, end), (token, pad)],
            [(token, end), (token, pad), (pad, pad), (pad, pad)],
        ],
    }
    for key, rows_of_roles in expected.items():
        read_shown(page, written("draft2", rows, {}, mistake=key))
        found = [[tuple(pair) for pair in row] for row in page.evaluate(roles)]
        assert found == rows_of_roles, key
    read_shown(page, written("response", rows, {}))
    assert page.evaluate(roles)[0][:3] == [
        ["prompt", ""],
        ["prompt", "answer"],
        ["answer", "answer"],
    ]


def test_each_mistake_shows_in_the_rows_that_it_suggests(page):
    for mistake in mistakes(page):
        go = f"addressWith({json.dumps(mistake['show'])}, {json.dumps(mistake['key'])}).slice(1)"
        shown = read_shown(page, page.evaluate(go))
        assert page.evaluate("[state.use, state.mistake]") == [mistake["of"], mistake["key"]]
        assert any(cell["differs"] for cell in shown["grid"]), mistake["key"]


def test_a_mistake_that_these_rows_hide_leads_to_rows_that_show_it(page):
    read_shown(page, written("final", [(0, [1, 2])], {}, mistake="mask-by-value"))
    assert page.text_content("#differences") == TEXTS["en"]["noDifference"]
    page.click("#show-mistake")  # which changes the address, and the page follows a little later
    page.locator("#differences", has_text=TEXTS["en"]["differences.one"]).wait_for()


def probabilities(name, tokenizer):
    """A function of inputs (B, T): a toy model's log probabilities (B, T, V), by its definition."""
    entries = [{"instruction": text, "input": text, "output": text} for text in HOSTILE]
    counts = token_counts([*entries, *ENTRIES], tokenizer)
    V = counts["vocabulary"]
    single = torch.ones(V, dtype=torch.float64)
    for token_id, n in counts["tokens"]:
        single[token_id] += n
    single /= single.sum()

    def after(before):
        if name == "uniform":
            return torch.full((V,), 1 / V, dtype=torch.float64)
        row = torch.zeros(V, dtype=torch.float64)
        for first, token_id, n in counts["pairs"]:
            if first == before:
                row[token_id] += n
        if name == "unigram" or row.sum() == 0:
            return single
        return 0.9 * row / row.sum() + 0.1 * single

    return lambda inputs: torch.stack(
        [torch.stack([after(token_id).log() for token_id in row]) for row in inputs]
    )


@pytest.mark.parametrize("name", ["uniform", "unigram", "bigram"])
def test_the_loss_is_torchs_cross_entropy(page, tokenizer, name):
    log_probabilities = probabilities(name, tokenizer)
    chance = random.Random(name)
    for use in ("draft2", "final", "response"):
        ids = tokenizer.encode_ordinary("Name the category.\n\n### Response:\nfruit")
        rows = [(3, ids), (1, ids[4:7]), (0, chance.sample(ids, 2))]
        options = {"pad": 50256, "ignore": -7, "max": 9}
        shown = read_shown(page, written(use, rows, options, model=name))["loss"]
        inputs, targets = collated(FUNCTIONS[use], use, rows, options)
        logits = log_probabilities(inputs).flatten(0, 1)
        expected = F.cross_entropy(
            logits, torch.tensor(targets).flatten(), ignore_index=-7, reduction="none"
        ).view(len(rows), -1)
        counted = torch.tensor(targets) != -7
        assert shown["counted"] == counted.tolist()
        losses = torch.tensor([[loss or 0.0 for loss in row] for row in shown["losses"]])
        assert torch.allclose(losses.double(), expected, atol=1e-5)
        assert [[loss is not None for loss in row] for row in shown["losses"]] == counted.tolist()
        mean = F.cross_entropy(logits, torch.tensor(targets).flatten(), ignore_index=-7)
        assert shown["mean"] == pytest.approx(mean.item(), rel=1e-9)
        assert page.text_content("#number-mean strong") == f"{mean:.3f}"


@pytest.mark.parametrize(
    ("address_part", "sentence"),
    [
        (written("draft1", [(0, [1])], {}), "noTargets"),
        (written("response", [(3, [1, 2, 3, 4])], {"max": 2}), "noCounted"),
        (written("final", [(0, [1, 60000])], {}), "problem.input"),
        (written("final", [(0, [1])], {"pad": 60000}), "problem.target"),
        (written("final", [(0, [1, 2])], {"max": 1}, mistake="truncate-one-side"), "problem.shape"),
    ],
)
def test_where_there_is_no_loss_a_sentence_says_why(page, address_part, sentence):
    shown = read_shown(page, address_part)
    assert shown["loss"]["mean"] is None
    words = re.split(r"\{\w+\}", TEXTS["en"][sentence])
    note = page.text_content("#loss-note")
    assert all(word in note for word in words)
    assert page.text_content("#number-mean strong") == TEXTS["en"]["none"]
    assert "NaN" not in page.text_content("#grid-box") + page.text_content("#numbers")


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_text_has_the_ids_and_roles_of_the_dataset(page, tokenizer, style):
    entries = [{"instruction": text, "input": "", "output": text} for text in HOSTILE]
    entries += [{"instruction": text, "input": text + "\n", "output": " "} for text in HOSTILE]
    blank = ("  ", "\x1f\x85", "\ufeff")  # JavaScript's `trim` differs on the last two
    entries += [{"instruction": "Go.", "input": text, "output": "x"} for text in blank]
    entries += ENTRIES[:6]
    rows = InstructionDataset(entries, tokenizer, style, with_prompt_length=True)
    for entry, (prompt_length, ids) in zip(entries, list(rows), strict=True):
        read = "([row, style]) => readTextRow(row, 0, page.styles[style], page.tokenizer)"
        fields = {key: entry[key] for key in ("instruction", "input", "output")}
        row = page.evaluate(read, [fields, style.name])
        assert (row["promptLength"], row["ids"]) == (prompt_length, ids)
        assert row["roles"] == token_roles(entry, tokenizer, style)


@pytest.mark.parametrize(
    ("field", "typed", "key"),
    [
        ("#pad", "x", "fault.number"),
        ("#pad", "", "fault.missing"),
        ("#ignore", "-1.5", "fault.number"),
        ("#max", "1e3", "fault.number"),
        ("#row-0-ids", "1, 2, three", "fault.number"),
        ("#row-0-ids", "1; 2", "fault.number"),
        ("#row-0-ids", "99999999999999999999", "fault.size"),
        ("#row-0-prompt", "", "fault.missing"),
    ],
)
def test_a_field_that_cannot_be_read_says_so_beside_it(page, field, typed, key):
    read_shown(page, written("response", [(0, [1, 2])], {}))
    page.fill(field, typed)
    words = re.split(r"\{\w+\}", TEXTS["en"][key])
    assert all(word in page.text_content(f"{field}-fault") for word in words)
    assert page.get_attribute(field, "aria-invalid") == "true"
    assert page.text_content("#refusal") == TEXTS["en"]["faulty"]
    assert not page.is_visible("#grid-box")
    page.fill(field, "-3" if field == "#ignore" else "1")
    assert page.text_content(f"{field}-fault") == "" and page.is_visible("#grid-box")


@pytest.mark.parametrize(
    "typed", ["1 2 50256", "[1, 2, 50256]", " 1,2,,50256, ", "1\uff0c2、50256"]
)
def test_ids_may_be_typed_in_several_ways(page, typed):
    read_shown(page, written("final", [(0, [1, 2])], {}))
    page.fill("#row-0-ids", typed)
    assert page.evaluate("view.batch[0].ids") == [1, 2, 50256]


def test_half_a_character_is_named(page):
    read_shown(page, urlencode({"text": json.dumps(["a", "", "b"])}))
    typed = (
        "const f = byId('row-0-output'); f.value = '\\ud83d'; f.dispatchEvent(new Event('input'))"
    )
    page.evaluate(typed)
    assert page.text_content("#row-0-output-fault") == TEXTS["en"]["fault.half"]


def test_an_address_says_what_it_does_not_understand(page):
    parts = "use=final&foo=1&mistake=none-such&text=%5B1%5D&entry=999&ids=1,2"
    read_shown(page, parts)
    notice = page.text_content("#notice")
    assert all(word in notice for word in ("foo=1", "mistake=none-such", "text=[1]", "entry=999"))
    assert page.evaluate("state.rows.length") == 1
    read_shown(page, "&".join(["ids=1"] * 9))
    assert page.evaluate("state.rows.length") == 8 and page.is_visible("#notice")
    read_shown(page, "ids=1")
    assert not page.is_visible("#notice")


def test_the_address_holds_the_whole_state_and_back_undoes_a_change(browser, address):
    with open_page(browser, address) as page:
        first = page.evaluate("state")
        page.click("label:has(#use-response)")
        page.fill("#pad", "7")
        page.locator("#pad").press_sequentially("89")  # one step back, with the 7
        page.fill("#row-0-ids", "1, 2, 3")
        page.select_option("#mistake", "end-masked-too")
        page.select_option("#row-1-kind", "text")
        page.fill("#row-1-instruction", "a & b = c # d % | e + 你好")
        page.select_option("#language", "zh-CN")
        last = page.evaluate("state")
        page.goto("about:blank")
        page.go_back()
        page.locator("h1", has_text=TEXTS["zh-CN"]["title"]).wait_for()
        assert page.evaluate("state") == last
        for _ in range(7):
            page.go_back()
        page.wait_for_selector("#use-final:checked", state="attached")
        assert page.evaluate("state") == first
        page.go_forward()
        page.wait_for_selector("#use-response:checked", state="attached")


def test_the_keyboard_alone_suffices(browser, address):
    with open_page(browser, address) as page:

        def tab_to(selector):
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate("s => document.activeElement.matches(s)", selector):
                    return
            pytest.fail(f"Tab does not lead to {selector}")

        tab_to("#use-final")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("[state.use, document.activeElement.id]") == [
            "response",
            "use-response",
        ]
        tab_to("#mistake")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("state.mistake") == "prompt-length-off-by-one"
        page.keyboard.press("ArrowUp")
        tab_to("#max")
        page.keyboard.type("4")
        tab_to("#add")
        page.keyboard.press("Enter")
        page.keyboard.type("4, 5, 6, 7, 8")
        tab_to("#row-3-prompt")
        page.keyboard.press("Control+A")
        page.keyboard.type("2")
        tab_to(".remove")
        assert page.evaluate("state.rows.at(-1)") == {
            "kind": "ids",
            "ids": "4, 5, 6, 7, 8",
            "prompt": "2",
        }
        tab_to(".cell")
        start = page.text_content("#story")
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowRight"):
            page.keyboard.press(key)
        story = page.text_content("#story")
        assert story != start and story.startswith("Row 3, column 3: input “(” (id 7")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == story
        page.keyboard.press("Home")
        assert page.text_content("#story").startswith("Row 3, column 0")
        tab_to("summary")
        page.keyboard.press("Enter")
        assert page.is_visible("tbody tr")


def test_rows_are_added_and_removed_up_to_eight(browser, address):
    with open_page(browser, address) as page:
        for _ in range(5):
            page.click("#add")
        assert page.is_disabled("#add") and page.get_attribute("#add", "title")
        for _ in range(8):
            page.click(".remove")
        assert page.text_content("#refusal").endswith("ValueError: empty batch")
        page.reload()
        assert page.evaluate("state.rows") == []


def test_an_entry_fills_the_fields_and_hostile_text_stays_text(browser, address):
    with open_page(browser, address) as page:
        page.select_option("#row-0-kind", "text")
        for i, text in enumerate(HOSTILE):
            page.select_option("#row-0-entry", str(i))
            assert page.evaluate("state.rows[0].output") == text
            assert page.input_value("#row-0-instruction") == text
        assert page.title() == TEXTS["en"]["title"]
        assert page.evaluate("document.querySelectorAll('img, script[src]').length") == 0


@pytest.mark.parametrize(
    ("width", "scheme", "language"),
    [
        (360, "light", "en"),
        (360, "dark", "zh-CN"),
        (1280, "light", "zh-CN"),
        (1280, "dark", "en"),
    ],
)
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    browser, address, width, scheme, language
):
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    case = urlencode([*OPEN_CASE, ("lang", language)])
    with open_page(browser, f"{address}#{case}", **options) as page:
        page.click("summary")
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.documentElement.lang") == language
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_many_columns_are_shown_in_part_and_counted_in_full(page):
    ids = [i % 50 for i in range(3000)]
    shown = read_shown(page, written("final", [(0, ids)], {}))
    assert len(shown["grid"]) == len(shown["table"]) == 128
    assert shown["loss"]["number"] == 3000
    assert "3000" in page.text_content("#wide")


def test_rows_too_long_for_an_address_are_said_to_be(browser, address):
    with open_page(browser, address) as page:
        before = page.evaluate("location.hash")
        page.fill("#row-0-ids", "1, 2, 3, " * 10_000)
        assert page.text_content("#notice") == TEXTS["en"]["tooLong"]
        assert page.evaluate("[location.hash, view.loss.number]") == [before, 30_000 + 2 + 3]
        page.fill("#row-0-ids", "1")
        assert not page.is_visible("#notice")


def test_a_row_of_ids_becomes_its_text_and_text_its_ids(page):
    read_shown(page, written("final", [(0, [5376, 262, 6536, 13])], {}))
    page.select_option("#row-0-kind", "text")
    assert page.input_value("#row-0-output") == "Name the category."
    page.select_option("#style", "bare")
    page.select_option("#row-0-kind", "ids")
    assert page.input_value("#row-0-ids") == "5376, 262, 6536, 13"


def test_both_languages_say_the_same_things():
    assert set(TEXTS) == set(PAGE_LANGUAGES)
    english = TEXTS["en"]
    for texts in TEXTS.values():
        assert list(texts) == list(english)
        for key, text in texts.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(
                re.findall(r"\{\w+\}", english[key])
            ), key


def test_every_text_is_used_somewhere():
    folder = PAGES / "collate_explorer"
    scripts = "".join(p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.[jh]*")))
    scripts = scripts.replace((folder / "texts.json").read_text(encoding="utf-8"), "")
    for key in TEXTS["en"]:
        family = key.split(".")[0] + ".${"
        assert f'"{key}"' in scripts or f"`{family}" in scripts or key == "name", key


def test_a_page_without_a_single_entry_is_refused():
    turns = [{"instruction": "a", "output": "b"}]
    with pytest.raises(DataError, match="one instruction and one answer"):
        collate_explorer_page([{"instruction": "c", "output": "d", "history": turns}])
