"""Opens every page of the built documentation in Chromium at 390 and 1280 px: ``python scripts/check_site.py build/site``.

Reports of the gallery and pages of experiments are among them. Fails on a page that is wider than its window, a script
error, or a file that is missing. Without chromium on the PATH it says so.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

WIDTHS = (390, 1280)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def faults(browser: Browser, address: str, pages: list[str], width: int) -> Iterator[str]:
    """One line per fault of the pages at one width."""
    tab = browser.new_page(viewport={"width": width, "height": 900})
    found: list[str] = []
    tab.on("pageerror", lambda error: found.append(f"script error: {error}"))
    tab.on("response", lambda answer: found.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
    for page in pages:
        found.clear()
        tab.goto(address + page, wait_until="load", timeout=120_000)
        needed, given = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        if needed > given:
            found.append(f"{needed} px wide in a window of {given}")
        yield from (f"{page} at {width} px: {fault}" for fault in found)
    tab.close()


def main(site: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("pages were not opened in a browser: no chromium on the PATH")
        return
    found = sorted(path.relative_to(site) for path in site.rglob("*.html"))
    pages = [f"{path.parent.as_posix()}/" if path.name == "index.html" else path.as_posix() for path in found]
    if not pages:
        sys.exit(f"{site}: no pages; run mkdocs build first")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        lines = [
            line
            for width in WIDTHS
            for line in faults(browser, f"http://127.0.0.1:{server.server_port}/", pages, width)
        ]
        browser.close()
    server.shutdown()
    print("\n".join([*lines, f"{len(pages)} pages at {' and '.join(map(str, WIDTHS))} px: {len(lines)} faults"]))
    if lines:
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
