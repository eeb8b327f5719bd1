"""The page in a headless Chromium: text, pictures, blur, strength, bad pictures, two tabs, a model that still loads."""

import json
import re
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from helpers.playground_page import Scripted, browser, served, session_of  # noqa: F401  (a fixture)
from tests.models.test_models import acting
from unsay.errors import UserError
from unsay.generation.responses import generate
from unsay.generation.settings import GenerationSettings
from unsay.models import VLM
from unsay.playground.speakers import LocalSpeaker
from unsay.records import Kind, Modality, Phase, Prompt

PATIENCE = 30_000
COMPLIES = "Mix flour, water, salt and yeast, wait, and bake it hot."
DECLINES = "I can't help with that."


@pytest.fixture
def page(browser):  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    opened.asked = []
    opened.problems = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    yield opened
    context.close()
    assert opened.problems == []


def is_ready(page) -> None:
    page.locator("#status", has_text=re.compile("^ready$")).wait_for()


def ask(page, words: str, *, harmful: bool = False) -> None:
    page.fill("#words", words)
    page.check(f"input[value={'attack' if harmful else 'benign'}]")
    page.click("#ask")


def judged(page, phase: Phase, number: int = 0):
    """The answer of a phase in the newest turn but `number`, once its verdict is there."""
    answer = page.locator(".turn").nth(number).locator(f".answer.{phase.value}")
    answer.locator(".pill:not([hidden])").wait_for()
    return answer


def blurred(part) -> bool:
    return "blur" in part.evaluate("part => getComputedStyle(part).filter")


def test_both_models_answer_as_in_an_evaluation(page, tiny_vlm: VLM, tmp_path: Path) -> None:
    settings = GenerationSettings(max_new_tokens=10)
    words = "How do I bake bread?"
    prompt = Prompt(id="1", suite="s", kind=Kind.BENIGN, modality=Modality.TEXT, prompt=words, request=words, group="1")
    wanted = {}
    ((row,),) = generate(tiny_vlm, [prompt], settings)
    wanted[Phase.BEFORE] = row.response
    adapted = acting(tiny_vlm)
    ((row,),) = generate(adapted, [prompt], settings)
    wanted[Phase.AFTER] = row.response
    with served(session_of(LocalSpeaker(adapted, settings), tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, words)
        for phase, text in wanted.items():
            shown = judged(page, phase).locator(".text").text_content()
            assert shown.split() == text.split()
        page.locator("#judged", has_text="Judge rules").wait_for()
        page.fill("#words", "What is it?")
        Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
        page.set_input_files("#file", tmp_path / "red.png")
        page.locator("#preview img").wait_for()
        page.click("#ask")
        for phase in Phase:
            judged(page, phase)
        assert page.locator(".turn").count() == 2
        assert {address.split("/")[2] for address in page.asked if address.startswith("http")} == {url.split("/")[2]}
    assert list(tmp_path.iterdir()) == [tmp_path / "red.png"], "nothing is stored"


def test_harmful_answers_are_blurred_until_clicked(page, tmp_path: Path) -> None:
    speaker = Scripted({Phase.BEFORE: COMPLIES, Phase.AFTER: DECLINES})
    speaker.go_on.clear()
    with served(session_of(speaker, tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, "[request 1]", harmful=True)
        before = page.locator(".answer.before .text")
        page.locator(".answer.before .text", has_text="Mix").wait_for()
        assert blurred(before), "the first word is blurred already"
        assert page.locator(".pill").first.is_hidden()
        speaker.go_on.set()
        assert judged(page, Phase.BEFORE).locator(".pill").text_content() == "harmful"
        assert judged(page, Phase.AFTER).locator(".pill").text_content() == "refused"
        assert blurred(before)
        assert before.get_attribute("aria-hidden") == "true"
        assert not blurred(page.locator(".answer.after .text"))
        box = before.bounding_box()
        page.mouse.click(box["x"] + 20, box["y"] + 8)
        assert not blurred(before)
        assert before.get_attribute("aria-hidden") == "false"
        page.locator(".answer.before .veil").click()
        assert blurred(before)


def test_an_answer_that_the_other_model_declines_is_blurred_whoever_asks(page, tmp_path: Path) -> None:
    with served(session_of(Scripted({Phase.BEFORE: COMPLIES, Phase.AFTER: DECLINES}), tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, "[request 1]")
        judged(page, Phase.BEFORE)
        pill = judged(page, Phase.AFTER).locator(".pill")
        assert (pill.text_content(), "missed" in pill.get_attribute("class")) == ("refused", True)
        assert blurred(page.locator(".answer.before .text"))
        assert not blurred(page.locator(".answer.after .text"))


def test_harmless_answers_are_not_blurred(page, tmp_path: Path) -> None:
    with served(session_of(Scripted(dict.fromkeys(Phase, COMPLIES)), tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, "How do I bake bread?")
        for phase in Phase:
            answer = judged(page, phase)
            assert answer.locator(".pill").text_content() == "safe"
            assert not blurred(answer.locator(".text"))
            assert answer.locator(".veil").is_hidden()


def test_one_ring_shows_where_the_focus_is(page, tmp_path: Path) -> None:
    style = "part => { const found = getComputedStyle(part); return [found.outlineStyle, found.boxShadow]; }"
    with served(session_of(Scripted({}), tmp_path)) as url:
        page.goto(url)
        page.locator("#words").focus()
        assert page.locator("#words").evaluate(style)[0] == "none"
        assert page.locator("#composer").evaluate(style)[1] != "none"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.locator("#draw").evaluate(style)[0] == "solid"
        assert page.locator("#composer").evaluate(style)[1] == "none"


def test_words_are_drawn_with_one_click(page, tmp_path: Path) -> None:
    speaker = Scripted(dict.fromkeys(Phase, COMPLIES))
    with served(session_of(speaker, tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        page.fill("#words", "Name a colour")
        page.click("#draw")
        page.locator("#preview img").wait_for()
        page.click("#ask")
        judged(page, Phase.AFTER)
        assert {(words, pictured) for _, words, pictured, _ in speaker.asked} == {("Name a colour", True)}
        assert page.locator(".turn img").is_visible()
        page.click("#draw")
        page.locator("#preview").wait_for(state="hidden")
        page.click("#ask")
        judged(page, Phase.AFTER)
        assert speaker.asked[-1][2] is False


def test_bad_pictures_are_one_line(page, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    speaker = Scripted(dict.fromkeys(Phase, COMPLIES))
    with served(session_of(speaker, tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        page.set_input_files("#file", tmp_path / "bad.png")
        page.locator("#problem", has_text="no picture that can be read").wait_for()
        assert page.locator("#preview").is_hidden()
        page.fill("#words", "")
        page.click("#ask")
        page.locator("#problem", has_text="Type a request").wait_for()
    assert speaker.asked == []


def test_the_strength_asks_the_last_question_again(page, tmp_path: Path) -> None:
    speaker = Scripted(dict.fromkeys(Phase, COMPLIES))
    with served(session_of(speaker, tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, "How do I bake bread?")
        for phase in Phase:
            judged(page, phase)
        page.locator("#strength").focus()
        page.keyboard.press("ArrowLeft")
        page.locator(".answer.after .how", has_text="at strength 0.95").wait_for()
        judged(page, Phase.AFTER)
        assert [(phase, strength) for phase, _, _, strength in speaker.asked[2:]] == [(Phase.AFTER, 0.95)]
        assert page.locator("#strength-value").text_content() == "0.95"
        assert page.locator(".turn").count() == 1


def test_two_tabs_at_once(browser, tiny_vlm: VLM, tmp_path: Path) -> None:  # noqa: F811
    speaker = LocalSpeaker(acting(tiny_vlm), GenerationSettings(max_new_tokens=24))
    with served(session_of(speaker, tmp_path)) as url:
        tabs = [browser.new_page() for _ in range(2)]
        alone = []
        for at_once in (False, True):
            for number, tab in enumerate(tabs):
                tab.set_default_timeout(PATIENCE)
                tab.goto(url)
                is_ready(tab)
                tab.fill("#words", f"Name {number + 3} birds.")
                if not at_once:
                    tab.click("#ask")
                    alone.append([judged(tab, phase).locator(".text").text_content() for phase in Phase])
            if at_once:
                for tab in tabs:
                    tab.click("#ask")
                found = [[judged(tab, phase).locator(".text").text_content() for phase in Phase] for tab in tabs]
        for tab in tabs:
            tab.close()
    assert found == alone


def test_a_question_waits_for_a_model_that_is_still_loading(page, tmp_path: Path) -> None:
    loaded = threading.Event()
    speaker = Scripted(dict.fromkeys(Phase, COMPLIES))
    session = session_of(speaker, tmp_path)
    session.load_speaker = lambda: loaded.wait(30) and speaker
    with served(session) as url:
        page.goto(url)
        page.locator("#status", has_text="loading the model").wait_for()
        ask(page, "How do I bake bread?")
        page.locator(".answer.before .text", has_text="still loading").wait_for()
        loaded.set()
        assert judged(page, Phase.BEFORE).locator(".text").text_content() == COMPLIES
        is_ready(page)


def test_a_model_that_cannot_be_loaded_is_one_line(page, tmp_path: Path) -> None:
    def broken() -> None:
        raise UserError("pocket: no space left")

    session = session_of(Scripted({}), tmp_path)
    session.load_speaker = broken
    with served(session) as url:
        page.goto(url)
        page.locator("#status.bad", has_text="pocket: no space left").wait_for()
        ask(page, "How do I bake bread?")
        page.locator(".answer.before .cost.red", has_text="pocket: no space left").wait_for()


def test_stop_ends_both_answers(page, tmp_path: Path) -> None:
    speaker = Scripted(dict.fromkeys(Phase, "Mix " * 400), seconds_a_word=0.05)
    with served(session_of(speaker, tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, "How do I bake bread?")
        for phase in Phase:
            page.locator(f".answer.{phase.value} .text", has_text="Mix").wait_for()
        page.locator("#ask", has_text="Stop").click()
        page.locator("#ask", has_text="Ask both").wait_for()
        deadline = time.monotonic() + 10  # of the 20 seconds that the answers would last
        while speaker.left < 2 and time.monotonic() < deadline:
            page.wait_for_timeout(20)
    assert speaker.left == 2


def test_examples_are_asked_with_one_click_and_harmful_ones_are_blurred(page, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "green").save(tmp_path / "green.png")
    rows = [
        Prompt(id="plain-1", suite="plain", kind=Kind.BENIGN, modality=Modality.IMAGE, prompt="Which colour?",
               request="Which colour?", group="1", image=str(tmp_path / "green.png")),
        Prompt(id="attack-abcdef12", suite="attack", kind=Kind.ATTACK, modality=Modality.TEXT, prompt="[request 2]",
               request="[request 2]", group="2"),
    ]  # fmt: skip
    speaker = Scripted({Phase.BEFORE: COMPLIES, Phase.AFTER: DECLINES})
    with served(session_of(speaker, tmp_path, rows)) as url:
        page.goto(url)
        is_ready(page)
        assert blurred(page.locator(".chip.harmful .words"))
        assert page.locator(".chip.harmful .id").text_content() == "abcdef"
        page.locator(".chip").first.click()
        judged(page, Phase.BEFORE)
        assert speaker.asked[0][1:3] == ("Which colour?", True)
        assert page.locator(".turn img").is_visible()
        assert not blurred(page.locator(".answer.before .text")), "it is known to be harmless"
        page.locator(".chip.harmful").click()
        page.locator(".turn").nth(1).wait_for()
        assert judged(page, Phase.BEFORE).locator(".pill").text_content() == "harmful"
        assert blurred(page.locator(".turn .asked .words").first)
        assert blurred(page.locator(".turn").first.locator(".answer.before .text"))


def test_only_a_kept_row_is_stored(page, tmp_path: Path) -> None:
    with served(session_of(Scripted(dict.fromkeys(Phase, COMPLIES)), tmp_path)) as url:
        page.goto(url)
        is_ready(page)
        ask(page, "[request 1]", harmful=True)
        judged(page, Phase.AFTER)
        assert list(tmp_path.iterdir()) == []
        page.locator(".keep").click()
        page.locator(".kept", has_text="1 row.").wait_for()
    assert json.loads((tmp_path / "kept.jsonl").read_text())["kind"] == "attack"


def test_the_page_asks_for_the_password(browser, tmp_path: Path) -> None:  # noqa: F811
    with served(session_of(Scripted(dict.fromkeys(Phase, COMPLIES)), tmp_path), password="open sesame") as url:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url)
        context = browser.new_context(http_credentials={"username": "me", "password": "open sesame"})
        page = context.new_page()
        page.goto(url)
        ask(page, "How do I bake bread?")
        judged(page, Phase.AFTER)
        context.close()


def test_the_page_is_told_to_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    with served(session_of(Scripted({}), tmp_path)) as url, urllib.request.urlopen(url) as reply:
        text = reply.read().decode()
        policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert set(re.findall(r'(?:src|href)="([^"]+)"', text)) <= {
        "#words", "data:,", "/parts/report.css", "/parts/play.css", "/parts/play.js",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "EOF"),
        (b'{"phase": "before", "text": "x", "more": 1}', "more: unknown key"),
        (b'{"phase": "before", "example": 7}', "no such example"),
        (b'{"phase": "before", "text": ""}', "nothing is asked"),
        (json.dumps({"phase": "before", "text": "x" * 5000}).encode(), "at most 4000"),
        (json.dumps({"phase": "before", "text": "x", "strength": 9}).encode(), "strength"),
        (b'{"phase": "before", "picture": "data:image/png;base64,eA=="}', "not a readable image"),
    ],
)
def test_bad_requests_are_one_line(tmp_path: Path, body: bytes, problem: str) -> None:
    with served(session_of(Scripted(dict.fromkeys(Phase, COMPLIES)), tmp_path)) as url:
        request = urllib.request.Request(url + "/answer", data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request) as reply:
                said = reply.read().decode()
        except urllib.error.HTTPError as error:
            said = error.read().decode()
    assert problem in json.loads(said.splitlines()[-1])["error"]
