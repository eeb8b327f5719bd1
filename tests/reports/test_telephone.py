"""The report on a telephone: its tables scroll, and what is said of them stays in sight."""

from pathlib import Path

from helpers.playground_page import browser  # noqa: F401  (a fixture)
from tests.reports.test_reporting import make_run
from unsay.reports import write_report

WIDTH = 390


def test_captions_are_read_without_scrolling_and_no_column_is_squeezed(browser, tmp_path: Path) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(write_report(make_run(tmp_path / "run")).as_uri())

    def measured(selector: str, side: str) -> list[float]:
        script = f"found => found.map(one => one.getBoundingClientRect().{side})"
        return page.locator(selector).evaluate_all(script)

    captions = measured("caption span", "right")
    assert captions
    assert max(captions) <= WIDTH
    assert min(measured("#judge td:last-child", "width")) > 150  # where the labels are from, in words
    page.close()
