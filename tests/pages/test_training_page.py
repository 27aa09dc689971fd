"""The page that follows a run: it draws what was recorded, and loads itself while that grows."""

import pytest
from browser import open_browser, open_page, serious_faults

from ch07.evaluation.metrics import exact_match
from ch07.pages.training_page import FAILED, FINISHED, STOPPED, training_page
from ch07.runs.samples import Sample

HOSTILE = (
    "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>\u202e\x1b[0m"
)


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


def record(step, train_loss, val_loss=None, **values):
    usual = {"epoch": step / 10, "tokens_seen": 100 * step, "lr": 1e-3, "seconds": 2.0 * step}
    return {"step": step, **usual, "train_loss": train_loss, "val_loss": val_loss, **values}


HISTORY = [record(step, 8 / 2**n, 9 / 2**n) for n, step in enumerate(range(0, 40, 5))]


def sample(step, answer, question="Which day comes after Monday?", right="Tuesday"):
    return Sample(step=step, question=question, right=right, answer=answer, stopped="end")


SAMPLES = [sample(r["step"], f"the day {r['step'] // 10}") for r in HISTORY]
SAMPLES[-1] = sample(35, "Tuesday")


def write(folder, history=HISTORY, samples=SAMPLES, **options):
    path = folder / "watch.html"
    settings = {"--lr": 0.001, "--data": ["a.json", HOSTILE], "--watch": True}
    text = training_page("runs/1", history, samples, n_steps=40, settings=settings, **options)
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def heights(page, mark):
    """The vertical places of a series' points."""
    attribute = {"circle": "cy", "rect": "y"}[mark]
    found = page.locator(f"#loss {mark}.point").all()
    return [float(point.get_attribute(attribute)) for point in found]


# --- what it draws --------------------------------------------------------------------------------


def test_each_record_is_a_point_of_each_curve_and_a_row(tmp_path, browser):
    history = [*HISTORY[:-1], record(35, 0.1, None)]
    with open_page(browser, write(tmp_path, history)) as page:
        assert page.locator("#loss circle.point").count() == len(history)
        assert page.locator("#loss rect.point").count() == len(history) - 1, "one had no validation"
        assert page.locator("#lr .point").count() == len(history)
        assert page.locator("#speed .point").count() == len(history) - 1, "none before a step"
        assert page.locator("#rows tr").count() == len(history)
        assert page.locator("#samples li").count() == len(SAMPLES)
        assert page.text_content("#facts") == ("step 35 of 40training loss 0.100about 10 s left"), (
            "what the last record has"
        )
        cells = page.locator("#rows tr:first-child td").all_text_contents()
        assert cells[:3] + cells[4:] == ["35", "3.50", "0.100", "0.001", "50"]


def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis(tmp_path, browser):
    """And equal differences on a linear one, which starts at 0."""
    with open_page(browser, write(tmp_path)) as page:
        page.set_checked("#log", True)
        gaps = [b - a for a, b in zip(heights(page, "circle"), heights(page, "circle")[1:])]  # noqa: B905
        assert gaps == pytest.approx([gaps[0]] * (len(HISTORY) - 1)) and gaps[0] > 5
    linear = [record(step, 7.0 - step) for step in range(8)]
    with open_page(browser, write(tmp_path, linear)) as page:
        page.set_checked("#log", False)
        gaps = [b - a for a, b in zip(heights(page, "circle"), heights(page, "circle")[1:])]  # noqa: B905
        assert gaps == pytest.approx([gaps[0]] * 7) and gaps[0] > 5


@pytest.mark.parametrize(
    "history",
    [
        [record(0, 10.8, 10.9)],
        [record(0, 10.8)],
        [record(0, 0.0), record(1, 0.0)],
        [record(0, -0.5, 0.0), record(1, 1e-7)],
        [record(step, 2.0, 2.0) for step in (0, 1)],
        [record(0, 1e12), record(10**9, 1e-12)],
        [record(step, 0.7, 0.6, tokens_seen=None) for step in (0, 10, 20)],
    ],
    ids=["one", "no validation", "zero", "negative", "flat", "far apart", "pairs"],
)
@pytest.mark.parametrize("logarithmic", [True, False], ids=["log", "linear"])
def test_any_losses_are_drawn_within_the_chart(tmp_path, browser, history, logarithmic):
    with open_page(browser, write(tmp_path, history)) as page:
        if page.is_enabled("#log"):
            page.set_checked("#log", logarithmic)
        losses = [r[name] for r in history for name in ("train_loss", "val_loss")]
        assert page.is_enabled("#log") == all(x is None or x > 0 for x in losses)
        n = sum(r["val_loss"] is not None for r in history)
        assert page.locator("#loss .point").count() == len(history) + n
        assert "NaN" not in page.inner_html("#loss") and "Infinity" not in page.inner_html("#loss")
        height = page.locator("#loss").bounding_box()["height"]
        assert all(0 <= y <= height for y in heights(page, "circle"))
        assert page.locator("#speed-part").is_visible() == (history[-1]["tokens_seen"] is not None)


def test_before_the_first_evaluation_it_says_so(tmp_path, browser):
    with open_page(browser, write(tmp_path, [], [])) as page:
        assert page.locator("#waiting").is_visible() and not page.locator("#losses").is_visible()
        assert not page.locator("#answers").is_visible()
        assert page.text_content("#facts") == "step 0 of 40"


def test_an_answer_is_right_by_the_rule_of_the_scores(tmp_path, browser):
    pairs = [("caf\u00e9", "cafe\u0301"), ("\x1f yes\n", "yes"), ("\ufeffyes", "yes")]
    samples = [sample(step, answer, right=right) for step, (answer, right) in enumerate(pairs)]
    with open_page(browser, write(tmp_path, HISTORY, samples)) as page:
        shown = page.locator("#samples li .right").all_text_contents()
    expected = ["right" if exact_match(*pair) else "" for pair in pairs]
    assert shown == expected[::-1] and set(expected) == {"right", ""}


def test_the_newest_answer_comes_first_and_what_changed_is_marked(tmp_path, browser):
    answers = ["a b c", "a x c", "a x c", "Tuesday", " \n"]
    samples = [sample(step, answer) for step, answer in enumerate(answers)]
    with open_page(browser, write(tmp_path, HISTORY, samples)) as page:
        items = page.locator("#samples li").all()
        assert items[0].locator(".step").text_content() == "step 4"
        assert items[0].locator(".answer").text_content() == "[an empty answer]"
        assert items[1].locator("mark").all_text_contents() == ["Tuesday"]
        assert items[2].locator("mark").all_text_contents() == []
        assert [t.strip() for t in items[3].locator("mark").all_text_contents()] == ["x"]
        assert items[4].locator("mark").count() == 0, "nothing came before"
        assert [item.locator(".right").text_content() for item in items] == [
            "", "right", "", "", "",
        ]  # fmt: skip
        assert page.text_content("#question") == "Which day comes after Monday?"


def test_what_is_hostile_stays_text(tmp_path, browser):
    samples = [sample(0, "a", HOSTILE, HOSTILE), sample(5, HOSTILE, HOSTILE, HOSTILE)]
    address = write(tmp_path, HISTORY, samples, state=FAILED, note=HOSTILE)
    with open_page(browser, address) as page:
        assert page.title() == "runs/1: ended by an error"
        assert page.text_content("#question") == page.text_content("#right") == HOSTILE
        assert page.text_content("#samples li:first-child .answer") == HOSTILE
        assert page.text_content("#note") == HOSTILE
        assert HOSTILE in page.text_content("#options")
        assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
@pytest.mark.parametrize("state", ["training", FINISHED])
def test_it_is_accessible_and_fits(tmp_path, browser, scheme, width, state):
    samples = [*SAMPLES, sample(40, "word " * 40)]
    address = write(tmp_path, HISTORY, samples, state=state)
    size = {"width": width, "height": 800}
    with open_page(browser, address, viewport=size, color_scheme=scheme) as page:
        assert serious_faults(page) == []
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- how it follows a run -------------------------------------------------------------------------


def with_clock(page):
    """Load the page again with a clock that the test moves."""
    page.clock.install()
    page.reload()


def loads_again(page, seconds):
    """Let time pass; the page loads itself, or the test fails."""
    with page.expect_event("load"):
        page.clock.fast_forward(1000 * seconds)


def stays(page, seconds):
    """Whether the page doesn't load itself for so long; before a load it would leave a note."""
    page.clock.run_for(1000 * seconds)
    return page.evaluate("history.state === null")


def test_a_run_that_trains_is_followed(tmp_path, browser):
    with open_page(browser, write(tmp_path, HISTORY[:3], SAMPLES[:3])) as page:
        with_clock(page)
        write(tmp_path, HISTORY[:4], SAMPLES[:4])
        assert stays(page, 3), "the reader has time to read"
        loads_again(page, 20)
        assert page.locator("#loss circle.point").count() == 4


@pytest.mark.parametrize("state", [FINISHED, STOPPED, FAILED])
def test_a_run_that_has_ended_is_not(tmp_path, browser, state):
    note = {STOPPED: "python -m ch07 finetune --resume --out runs/1"}.get(state, "")
    with open_page(browser, write(tmp_path, state=state, note=note)) as page:
        with_clock(page)
        assert stays(page, 600)
        assert not page.locator("#pause").is_visible()
        assert note in page.text_content("#note")
        assert page.locator("#note").is_visible() == (note != "")


def test_a_reader_who_pauses_or_selects_text_is_not_disturbed(tmp_path, browser):
    with open_page(browser, write(tmp_path)) as page:
        with_clock(page)
        page.click("#pause")
        assert page.text_content("#paused") == "Paused."
        assert stays(page, 600)
        page.evaluate("getSelection().selectAllChildren(document.getElementById('question'))")
        page.keyboard.press("Tab")
        page.evaluate("document.getElementById('pause').click()")
        assert stays(page, 600)
        page.evaluate("getSelection().removeAllRanges()")
        loads_again(page, 600)


def test_a_load_keeps_place_axis_focus_and_opened_parts(tmp_path, browser):
    with open_page(browser, write(tmp_path), viewport={"width": 600, "height": 400}) as page:
        with_clock(page)
        page.set_checked("#log", False)
        page.click("#settings summary")
        page.focus("#pause")
        page.evaluate("window.scrollTo(0, 500)")
        page.clock.run_for(1000)
        place = "document.getElementById('samples').getBoundingClientRect().top"
        before = page.evaluate(place)
        loads_again(page, 60)
        assert page.evaluate(place) == pytest.approx(before, abs=1)
        assert not page.is_checked("#log")
        assert page.evaluate("document.getElementById('settings').open")
        assert not page.evaluate("document.getElementById('numbers').open")
        assert page.evaluate("document.activeElement.id") == "pause"


def test_the_axis_is_chosen_by_the_losses_until_the_reader_does(tmp_path, browser):
    with open_page(browser, write(tmp_path, [], [])) as page:
        with_clock(page)
        flat = [record(0, 10.8), *(record(step, 1.0 + 0.01 / step) for step in range(1, 10))]
        write(tmp_path, flat)
        loads_again(page, 60)
        assert page.is_checked("#log")


def test_a_long_silence_is_said(tmp_path, browser):
    with open_page(browser, write(tmp_path)) as page:
        assert "stopped" not in page.text_content("#age")
        with_clock(page)
        page.click("#pause")
        page.clock.run_for(1000 * 300)
        assert "the run may have been stopped" in page.text_content("#age")
