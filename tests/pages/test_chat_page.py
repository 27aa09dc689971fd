"""The chat page, used as a person does: typing, clicking, stopping, reading; and hostile texts."""

import json

import pytest
from browser import open_browser, open_page, serious_faults
from served import REMEMBERS, PausedBatch, serving, trained, wait_until

from ch07.data.chat_dataset import encode_chat_prompt
from ch07.generation.respond import respond
from ch07.serving.engine_thread import AnswerEnd

WIDE = {"width": 1200, "height": 800}
PHONE = {"width": 360, "height": 740}
QUESTIONS = [
    {"instruction": "Add the numbers.", "input": "2 and 3"},
    {"instruction": "Name a colour.", "input": ""},
    {"instruction": "<img src=x onerror=\"document.title='broken'\">", "input": "</script>"},
]
HOSTILE = [
    "<img src=x onerror=\"document.title='broken'\">",
    "</script><script>document.title='broken'</script>",
    "<svg onload=document.title='broken'>",
    '<a href="javascript:document.title=1">x</a>',
    "\u202e &lt;b&gt; \u0000 \u2028 '\"`${7*7}",
]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def served(tokenizer):
    with serving(suggestions=QUESTIONS) as server:
        yield server


@pytest.fixture(scope="module")
def remembering(tokenizer):
    with serving(trained(conversations=REMEMBERS), time_limit=60) as server:
        yield server


def begin(browser, served, **options):
    return open_page(browser, served.url, **{"viewport": WIDE, **options})


def ready(page):
    wait_until(lambda: page.text_content("#memory"))
    return page


def press(page, name):
    page.get_by_role("button", name=name, exact=True).last.click()


def answers(page):
    return [text.removesuffix("\n") for text in page.locator(".answer").all_text_contents()]


def finished(page, n):
    """The texts of n answers, when all of them are finished."""
    wait_until(lambda: page.locator(".note").count() >= n and not page.locator(".writing").count())
    texts = answers(page)
    assert len(texts) == n
    return texts


def ask(page, question):
    page.fill("#question", question)
    page.press("#question", "Enter")


def expected(served, question, text="", n=256):
    run = served.service.run
    entry = {"instruction": question, "input": text}
    (answer,) = respond(run.model, run.tokenizer, [entry], run.style, n)
    return answer.text


# --- a conversation -----------------------------------------------------------------------------
def test_a_question_is_answered_as_on_the_command_line(browser, served):
    with begin(browser, served) as page:
        ready(page)
        assert page.text_content("h1") == "small" == page.title().split(" ")[0]
        assert "doesn't remember" in page.text_content("#memory")
        ask(page, "  Name a fruit. ")
        assert page.input_value("#question") == ""
        assert finished(page, 1) == [expected(served, "Name a fruit.")]
        assert page.locator(".question").text_content().endswith("Name a fruit.")
        assert page.is_hidden("#welcome")
        spoken = page.text_content("#announcement")
        assert spoken == f"Answer: {answers(page)[0]}"
        ask(page, "Another?")
        assert finished(page, 2)[1] == expected(served, "Another?")


def test_a_suggestion_and_an_input_are_asked_as_in_training(browser, served):
    with begin(browser, served) as page:
        ready(page)
        assert page.locator("#suggestions button").count() == 3
        page.locator("#suggestions button").first.click()
        assert finished(page, 1) == [expected(served, "Add the numbers.", "2 and 3")]
        press(page, "Add input")
        page.fill("#input", "hot")
        page.fill("#question", "Give the opposite.")
        press(page, "Send")
        assert finished(page, 2)[1] == expected(served, "Give the opposite.", "hot")
        assert page.is_hidden("#input-box")


def test_shift_enter_begins_a_line_and_an_empty_question_is_not_sent(browser, served):
    with begin(browser, served) as page:
        ready(page)
        ask(page, "   ")
        page.fill("#question", "one")
        page.press("#question", "Shift+Enter")
        page.keyboard.type("two")
        assert page.input_value("#question") == "one\ntwo"
        assert page.locator(".answer").count() == 0


def test_a_model_that_remembers_reads_the_turns_before(browser, remembering):
    run = remembering.service.run
    with begin(browser, remembering) as page:
        ready(page)
        assert "remembers earlier turns" in page.text_content("#memory")
        page.fill("#max-tokens", "9")
        page.fill("#system", "Be short.")
        ask(page, "One?")
        (first,) = finished(page, 1)
        ask(page, "Two?")
        second = finished(page, 2)[1]
        history = [{"instruction": "One?", "input": "", "output": first.strip()}]
        entry = {"system": "Be short.", "instruction": "Two?", "input": "", "history": history}
        (answer,) = respond(run.model, run.tokenizer, [entry], run.style, 9)
        assert second == answer.text
        press(page, "New conversation")
        assert answers(page) == [] and page.is_visible("#welcome")
        ask(page, "Two?")
        assert finished(page, 1)[0] != second


def test_turns_that_no_longer_fit_are_forgotten_and_the_page_says_so(browser, remembering):
    with begin(browser, remembering) as page:
        ready(page)
        page.fill("#max-tokens", "100")
        for n in range(3):
            ask(page, f"Question {n}?")
            finished(page, n + 1)
        assert "forgotten: the context is full" in page.locator(".note").last.text_content()


# --- stop, regenerate, edit ---------------------------------------------------------------------
@pytest.mark.parametrize("how", ["Stop", "Escape"])
def test_an_answer_appears_while_it_is_written_and_can_be_stopped(browser, how):
    run = trained()
    batch = PausedBatch(run)
    with serving(run, batch=batch) as served, begin(browser, served) as page:
        ready(page)
        ask(page, "Tell a story.")
        wait_until(lambda: page.is_visible("#stop") and page.is_hidden("#send"))
        batch.allow(5)
        wait_until(lambda: answers(page)[0])
        first = answers(page)[0]
        batch.allow(5)
        wait_until(lambda: len(answers(page)[0]) > len(first))
        assert page.locator(".writing").count() == 1
        press(page, "Stop") if how == "Stop" else page.keyboard.press("Escape")
        (text,) = finished(page, 1)
        assert text.startswith(first) and expected(served, "Tell a story.").startswith(text)
        assert "You stopped this answer." in page.text_content(".note")
        served.wait_until_idle()  # the server stops, too
        assert page.is_visible("#send") and page.is_hidden("#stop")


def test_regenerate_uses_the_settings_of_the_moment(browser, served):
    with begin(browser, served) as page:
        ready(page)
        ask(page, "Name a fruit.")
        (greedy,) = finished(page, 1)
        page.fill("#max-tokens", "4")
        press(page, "Regenerate")
        wait_until(lambda: "4 tokens." in (page.text_content(".below") or ""))
        assert finished(page, 1) == [expected(served, "Name a fruit.", n=4)]
        assert "Stopped at the limit of new tokens." in page.text_content(".note")
        page.fill("#temperature", "1.5")
        page.fill("#seed", "7")
        drawn = []
        for _ in range(2):
            page.evaluate("document.querySelector('.note').remove()")
            press(page, "Regenerate")
            drawn += finished(page, 1)
        assert drawn[0] == drawn[1] and not greedy.startswith(drawn[0])


def test_without_a_temperature_what_would_do_nothing_cannot_be_set(browser, served):
    with begin(browser, served) as page:
        ready(page)
        assert page.is_disabled("#top-p") and page.is_disabled("#seed")
        page.fill("#temperature", "0.7")
        assert page.is_enabled("#top-p") and page.is_enabled("#seed")


def test_a_setting_that_cannot_be_used_is_shown_and_nothing_is_sent(browser, served):
    with begin(browser, served) as page:
        ready(page)
        page.fill("#max-tokens", "0")
        ask(page, "Name a fruit.")
        assert page.locator(".answer").count() == 0
        assert page.input_value("#question") == "Name a fruit."
        assert page.evaluate("document.activeElement.id") == "max-tokens"


def test_the_last_question_can_be_edited(browser, served):
    with begin(browser, served) as page:
        ready(page)
        page.locator("#suggestions button").first.click()
        finished(page, 1)
        press(page, "Edit")
        assert answers(page) == []
        assert page.input_value("#question") == "Add the numbers."
        assert page.input_value("#input") == "2 and 3"


# --- the prompt ---------------------------------------------------------------------------------
def test_the_prompt_is_shown_as_it_really_is_sent(browser, remembering):
    run = remembering.service.run
    with begin(browser, remembering) as page:
        ready(page)
        page.fill("#max-tokens", "3")
        ask(page, "One <b>?")
        (first,) = finished(page, 1)
        page.fill("#question", "Two?")
        press(page, "Show prompt")
        wait_until(lambda: page.is_visible("#prompt-view"))
        history = [{"instruction": "One <b>?", "input": "", "output": first.strip()}]
        entry = {"instruction": "Two?", "input": "", "history": history}
        ids = encode_chat_prompt(entry, run.tokenizer, run.style)
        assert page.text_content("#prompt-text") == run.tokenizer.decode(ids)
        assert f"{len(ids)} tokens of the 256" in page.text_content("#prompt-size")
        press(page, "Tokens")
        assert page.is_hidden("#prompt-text")
        shown = page.locator("#prompt-tokens .id").all_text_contents()
        assert [int(number) for number in shown] == ids
        assert "end of text" in page.text_content("#legend")
        page.keyboard.press("Escape")
        assert page.is_hidden("#prompt-view")
        press(page, "Prompt")  # that of the answer
        wait_until(lambda: page.is_visible("#prompt-view"))
        assert "Two?" not in page.text_content("#prompt-text")


# --- what goes wrong ----------------------------------------------------------------------------
def test_an_error_is_told_kindly_and_can_be_tried_again(browser):
    run = trained()
    batch = PausedBatch(run, max_rows=1)
    with serving(run, batch=batch, queue=0) as served:
        context = browser.new_context(viewport=WIDE)
        page = context.new_page()
        page.goto(served.url)
        ready(page)
        other = served.engine.submit
        busy = []

        def full(prompt, limits):
            busy.append(1)
            served.engine.max_open = 0 if len(busy) == 1 else 1
            return other(prompt, limits)

        served.engine.submit = full
        ask(page, "Hello")
        wait_until(lambda: page.locator("#turns .trouble").count() == 1)
        assert "The server is busy" in page.text_content("#turns .trouble")
        assert page.get_attribute("#turns .trouble", "role") == "alert"
        assert serious_faults(page) == []
        batch.allow(300)
        press(page, "Try again")
        assert finished(page, 1) == [expected(served, "Hello")]
        assert page.locator("#turns .trouble").count() == 0
        context.close()


def test_a_server_that_has_gone_is_said(browser):
    with serving() as served:
        context = browser.new_context(viewport=WIDE)
        page = context.new_page()
        page.goto(served.url)
        ready(page)
    ask(page, "Hello")
    wait_until(lambda: page.locator("#turns .trouble").count() == 1)
    assert page.text_content("#turns .trouble") == "The server doesn't answer. Is it still running?"
    context.close()


def test_a_key_is_asked_for_and_kept_for_the_tab(browser, tokenizer):
    with serving(key="sk-of-this-test") as served:
        context = browser.new_context(viewport=PHONE)
        page = context.new_page()
        page.goto(served.url)
        wait_until(lambda: page.is_visible("#key-view"))
        assert serious_faults(page) == []
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        wait_until(lambda: page.is_visible("#key-trouble"))
        page.fill("#key", "sk-of-this-test")
        page.keyboard.press("Enter")
        wait_until(lambda: page.text_content("#memory"))
        assert page.is_hidden("#key-view")
        ask(page, "Hello")
        finished(page, 1)
        page.reload()
        ready(page)
        assert page.is_hidden("#key-view")
        context.close()


# --- hostile texts ------------------------------------------------------------------------------
def test_questions_prompts_and_suggestions_are_text(browser, served):
    with begin(browser, served) as page:
        ready(page)
        page.locator("#suggestions button").last.click()
        finished(page, 1)
        for n, text in enumerate(HOSTILE):
            ask(page, text)
            finished(page, n + 2)
        assert page.locator(".question").nth(1).text_content().endswith(HOSTILE[0])
        for name in ("Text", "Tokens"):
            press(page, "Prompt")
            wait_until(lambda: page.is_visible("#prompt-view"))
            press(page, name)
            page.keyboard.press("Escape")
        assert page.title().startswith("small")
        for tag in ("img", "svg", "#turns script", "#turns a", "#turns b", "#prompt-view b"):
            assert page.locator(tag).count() == 0


@pytest.mark.parametrize("text", HOSTILE[:4])
def test_answers_errors_and_names_are_text(browser, text):
    """What the model writes, what an error says, and how the run's folder is called."""
    name = text.replace("/", "|")  # which no folder's name can hold
    with serving(trained(name=name)) as served:
        submit = served.engine.submit

        def answer_with_it(prompt, limits):
            ticket = submit(prompt, limits)
            ticket.next = _events([text, AnswerEnd("end", 3, True)])
            return ticket

        served.engine.submit = answer_with_it
        with begin(browser, served) as page:
            ready(page)
            ask(page, "Hello")
            assert finished(page, 1) == [text]
            assert page.text_content("h1") == name
            page.evaluate("showPromptTrouble('<img src=x onerror=document.title=1>')")
            assert page.title() == f"{name} \u2013 chat"
            assert page.locator("img, svg, #turns script, #turns a").count() == 0


def _events(events):
    remaining = iter(events)

    async def next_event():
        return next(remaining)

    return next_event


# --- for everyone -------------------------------------------------------------------------------
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_page_is_accessible_in_the_light_the_dark_and_on_a_phone(
    browser, remembering, scheme, size
):
    with begin(browser, remembering, color_scheme=scheme, viewport=size) as page:
        ready(page)
        assert serious_faults(page) == []
        if size == PHONE:
            page.click("summary")
        page.fill("#max-tokens", "20")
        page.fill("#temperature", "1")
        ask(page, "Hello")
        finished(page, 1)
        ask(page, "And?")
        finished(page, 2)
        assert serious_faults(page) == []
        for name in ("Text", "Tokens"):
            press(page, "Prompt")
            wait_until(lambda: page.is_visible("#prompt-view"))
            press(page, name)
            assert serious_faults(page) == []
            page.keyboard.press("Escape")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"]  # nothing has to be scrolled sideways


def test_the_keyboard_alone_suffices(browser, served):
    with begin(browser, served) as page:
        ready(page)
        assert page.evaluate("document.activeElement.id") == "question"
        page.keyboard.type("Hello")
        page.keyboard.press("Enter")
        finished(page, 1)
        names = set()
        for _ in range(25):
            page.keyboard.press("Tab")
            script = "const e = document.activeElement; (e.id || e.textContent).trim()"
            names.add(page.evaluate(f"(() => {{ {script.replace('; (', '; return (')} }})()"))
        for name in (
            "new",
            "Copy",
            "Prompt",
            "Edit",
            "Regenerate",
            "question",
            "send",
            "temperature",
        ):
            assert name in names


def test_what_the_page_is_told_holds_no_path(served):
    status, _, body = served.request("GET", "/chat/about")
    assert status == 200 and set(json.loads(body)) == {
        "model",
        "remembers",
        "takes_system",
        "context_length",
        "time_limit",
        "suggestions",
    }
