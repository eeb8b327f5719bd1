"""The pictures of the README and the docs, from a finished run: the top of its report, and the playground.

    python -m tools.screenshots runs/demo --out docs/images

asks both models the first of the playground's harmful examples, whose text is blurred. Needs Chromium and the test
extra.
"""

import argparse
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Queue

from playwright.sync_api import Browser, Page, sync_playwright

from unsay.errors import UserError
from unsay.playground import PlaySettings, of_run
from unsay.playground.serve import serve

WIDTH, HEIGHT = 1280, 800
TALL = 1000
"""Height of the playground's picture: its controls, and one question."""
PATIENCE = 120_000
"""Milliseconds to wait for an answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `report.png` and `play.png`; returns the exit code (2 where there is no Chromium or no report)."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures")
    options = parser.parse_args(arguments)
    try:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            raise UserError("chromium: not installed (Debian, Ubuntu: apt install chromium)")
        if not (page := options.run / "report.html").exists():
            raise UserError(f"{page}: missing; finish the run first")
        options.out.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            report, playground = _page(browser, HEIGHT), _page(browser, TALL)
            report.goto(page.absolute().as_uri())
            report.screenshot(path=options.out / "report.png")
            _play(playground, options.run)
            playground.screenshot(path=options.out / "play.png")
            browser.close()
    except UserError as error:
        print(f"unsay: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: report.png, play.png")
    return 0


def _page(browser: Browser, height: int) -> Page:
    return browser.new_context(viewport={"width": WIDTH, "height": height}).new_page()


def _play(page: Page, run: Path) -> None:
    """Open the playground of the run, ask an example, and wait for both verdicts."""
    address: Queue[str] = Queue()
    session = of_run(run, PlaySettings())
    threading.Thread(target=serve, args=(session,), kwargs={"ready": address.put}, daemon=True).start()
    page.set_default_timeout(PATIENCE)
    page.goto(address.get(timeout=60))
    page.locator("#status", has_text=re.compile("^ready$")).wait_for()
    page.locator(".chip.harmful").first.click()
    for phase in ("before", "after"):
        page.locator(f".answer.{phase} .pill:not([hidden])").first.wait_for()
    page.evaluate("window.scrollTo(0, 0)")


if __name__ == "__main__":
    sys.exit(main())
