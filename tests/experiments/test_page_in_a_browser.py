"""The page of an experiment in headless Chromium: no errors, no overflow, no serious accessibility fault, and it prints."""

from __future__ import annotations

import shutil

import pytest

from detour.experiments.index import write_index

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; .ci/run installs it"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_whole_and_accessible(browser, smoke_experiment, width):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((smoke_experiment / "one/smoke/page/index.html").as_uri())
    assert said == []
    assert len(asked) == 1  # self-contained
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    sizes = page.evaluate("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().height)")
    assert len(sizes) >= 6
    assert min(sizes) > 40
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    faults = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults] == []
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_index_is_whole_and_accessible(browser, smoke_experiment, tmp_path, width):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(write_index([smoke_experiment / "one/smoke"], tmp_path / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    faults = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults] == []
    page.get_by_role("link", name="smoke", exact=True).click()
    assert page.url == (smoke_experiment / "one/smoke/page/index.html").as_uri()
    page.close()


def test_it_prints(browser, smoke_experiment):
    page = browser.new_page()
    page.goto((smoke_experiment / "one/smoke/page/index.html").as_uri())
    assert page.pdf().startswith(b"%PDF")
    page.close()
