"""Headless Chromium for the tests of pages, driven by Playwright; with no way to a network.

Chromium is the system's (`apt-get install chromium`); without one these tests are skipped, which
`.ci/run` doesn't let happen.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ch07.pages.chromium import find_chromium

OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
)


def chromium_path() -> str:
    """The browser's executable, $CHROMIUM if that is set; skips the test if there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one with CHROMIUM=/path/to/it")
    return found


@contextmanager
def open_browser() -> Iterator:
    """A browser that is closed at the end, and with it Playwright's event loop.

    Open it in a fixture of scope "module", not "session": while it is open, no other test of the
    process can run an event loop of its own, as the notebooks' tests do.
    """
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    options = [*OPTIONS, "--no-sandbox"] if is_root else list(OPTIONS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser, address: str, **options) -> Iterator:
    """A page at an address (or a file's path) that may load nothing from another host.

    Its errors and its messages of level "error" fail the test, and so does each request that is
    not to 127.0.0.1, a file or data. `options` go to `Browser.new_context`: viewport, color_scheme.
    """
    context = browser.new_context(**options)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)

    def allow_local(route):
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "http://localhost:", "file:", "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"asked for {url}")
            route.abort()

    page.route("**/*", allow_local)
    try:
        page.goto(address)
        yield page
        assert not faults, faults
    finally:
        context.close()


def serious_faults(page) -> list[str]:
    """What axe finds wrong with a page's accessibility, its serious and critical findings."""
    from axe_playwright_python.sync_playwright import Axe

    # Without "preload", which reads style sheets of other origins: there are none.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {[node['target'] for node in fault['nodes']][:5]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
