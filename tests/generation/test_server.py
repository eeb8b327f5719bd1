import base64
import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import killable, killed_answering
from helpers.misbehaving import Reply, says, serving
from unsay.errors import UserError
from unsay.generation import GenerationSettings
from unsay.generation.server import EndpointResponder, EndpointResponderSettings, messages
from unsay.records import Kind, Modality, Prompt, Turn

SETTINGS = GenerationSettings(max_new_tokens=9, seed=3)


def prompt(number: int, image: Path | None = None) -> Prompt:
    return Prompt(
        id=f"row {number}",
        suite="toy",
        kind=Kind.ATTACK,
        modality=Modality.IMAGE if image else Modality.TEXT,
        prompt=f"[request {number}]",
        request=f"[request {number}]",
        image=str(image) if image else None,
        group=str(number),
    )


def responder(url: str, **more: Any) -> EndpointResponder:
    return EndpointResponder(EndpointResponderSettings(**({"url": url, "model": "m", "retries": 0} | more)))


def echo(body: dict[str, Any], _: int) -> Reply:
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return says(f" To {text}. ", finish="length", tokens=(5, 3))


def test_answers_are_in_order_with_their_counts(tmp_path: Path) -> None:
    told = []
    with serving(echo) as server:
        rows = responder(server.url, concurrency=3).respond(
            [prompt(n) for n in range(7)], SETTINGS, tmp_path / "toy.before.jsonl", lambda *at: told.append(at)
        )
    assert [row.response for row in rows] == [f"To [request {n}]." for n in range(7)]
    assert {(row.finish_reason, row.tokens, row.prompt_tokens) for row in rows} == {("length", 3, 5)}
    assert {row.refusal_log_odds for row in rows} == {None}  # a server does not tell probabilities
    assert len((tmp_path / "toy.before.jsonl").read_text().splitlines()) == 7
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)
    assert {(body["max_tokens"], body["temperature"], body["seed"]) for body in server.asked} == {(9, 0.0, 3)}


def test_a_picture_travels_whole_and_first(tmp_path: Path) -> None:
    path = tmp_path / "dot.png"
    Image.new("RGB", (3, 2), (10, 20, 30)).save(path)
    (said,) = messages(prompt(0, path), None)
    picture, text = said["content"]
    assert text == {"type": "text", "text": "[request 0]"}
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (seen.size, seen.getpixel((0, 0))) == ((3, 2), (10, 20, 30))
    assert messages(prompt(0), "Be kind.")[0] == {"role": "system", "content": "Be kind."}


def test_a_prompts_own_system_prompt_and_the_turns_before_it_are_sent() -> None:
    turns = (Turn(role="user", text="[first]"), Turn(role="assistant", text="[said]"))
    row = prompt(0).model_copy(update={"system": "[its own]", "turns": turns})
    said = [(message["role"], message["content"]) for message in messages(row, "Be kind.")]
    conversation = [("user", "[first]"), ("assistant", "[said]"), ("user", "[request 0]")]
    assert said == [("system", "[its own]"), *conversation]
    silent = row.model_copy(update={"system": None})
    assert [(message["role"], message["content"]) for message in messages(silent, None)] == conversation


def test_a_server_goes_on_from_the_first_words_of_an_answer(tmp_path: Path) -> None:
    with serving(lambda body, number: says(" thing")) as server:
        asking = responder(server.url, extra={"top_k": 1}, concurrency=1)
        both = asking.respond([prompt(0), prompt(1)], SETTINGS, tmp_path / "a.jsonl", begun={"row 0": "Sure"})
        (again,) = responder(server.url, extra={"top_k": 1}).respond([prompt(0)], SETTINGS, tmp_path / "a.jsonl")
    begun, plain, unbegun = server.asked
    assert [(turn["role"], turn["content"]) for turn in begun["messages"]] == [
        ("user", "[request 0]"),
        ("assistant", "Sure"),
    ]
    assert (begun["continue_final_message"], begun["add_generation_prompt"], begun["top_k"]) == (True, False, 1)
    assert [row.response for row in both] == ["Sure thing", "thing"]
    assert again.response == "thing"  # another answer than the one that was begun
    assert not {"continue_final_message"} & {*plain, *unbegun}


def test_a_failed_request_is_no_answer_and_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "toy.before.jsonl"
    broken = True

    def answer(body: dict[str, Any], number: int) -> Reply:
        if broken and body["messages"][0]["content"] in ("[request 1]", "[request 4]"):
            return Reply("", status=500)
        return echo(body, number)

    asked = [prompt(n) for n in range(6)]
    with serving(answer) as server:
        with pytest.raises(UserError, match=r"2 of 6 prompts .* run the same command again"):
            responder(server.url).respond(asked, SETTINGS, path)
        assert not path.exists()
        errors = [json.loads(line) for line in (tmp_path / "toy.before.errors.jsonl").read_text().splitlines()]
        assert [row["id"] for row in errors] == ["row 1", "row 4"]
        assert all("500" in row["error"] for row in errors)
        broken, before = False, len(server.asked)
        rows = responder(server.url).respond(asked, SETTINGS, path)
        assert len(server.asked) == before + 2
    assert [row.id for row in rows] == [f"row {n}" for n in range(6)]
    assert not (tmp_path / "toy.before.errors.jsonl").exists()


@pytest.mark.parametrize(
    "reply",
    [
        Reply("", status=503),
        Reply("<html>"),
        Reply({"choices": []}),
        says("half an", finish="content_filter"),
        Reply(says("x").body, delay=0.5),
        Reply(says("x").body, cut=9),
    ],
)
def test_nothing_the_server_does_wrong_is_an_answer(reply: Reply, tmp_path: Path) -> None:
    with serving(lambda _body, _number: reply) as server, pytest.raises(UserError, match="1 of 1 prompts"):
        responder(server.url, timeout=0.25).respond([prompt(0)], SETTINGS, tmp_path / "toy.jsonl")
    assert not (tmp_path / "toy.jsonl").exists()


THOUGHT = Reply({"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "length"}]})
AGAIN = "run the same command again"


@pytest.mark.parametrize(
    ("reply", "advice", "again"),
    [
        (
            says("half an", finish="content_filter"),
            "1 would be rejected again: use another server, or leave the suite",
            0,
        ),
        (
            Reply({"error": {"code": "context_length_exceeded"}}, status=400),
            r"\(context_length_exceeded\).* 1 would be",
            0,
        ),
        (Reply("", status=422), "1 would be rejected again", 0),
        (THOUGHT, r"evaluation\.generation\.max_new_tokens, .* evaluation\.responder\.extra", 0),
        (Reply("", status=500), AGAIN, 1),
        (Reply("", status=401), rf"check url, model and OPENAI_API_KEY .* {AGAIN}", 1),
    ],
)
def test_the_same_again_is_advised_only_where_it_can_help(
    reply: Reply, advice: str, again: int, tmp_path: Path
) -> None:
    with serving(lambda _body, _number: reply) as server, pytest.raises(UserError, match=advice) as told:
        responder(server.url).respond([prompt(0)], SETTINGS, tmp_path / "toy.jsonl")
    assert (AGAIN in str(told.value)) == again


def test_each_kind_of_failure_is_counted(tmp_path: Path) -> None:
    replies = {"0": THOUGHT, "1": Reply("", status=500), "2": Reply("", status=422), "3": says("", "content_filter")}

    def answer(body: dict[str, Any], number: int) -> Reply:
        return replies.get(body["messages"][0]["content"][9], echo(body, number))

    with serving(answer) as server, pytest.raises(UserError) as told:
        responder(server.url).respond([prompt(n) for n in range(6)], SETTINGS, tmp_path / "toy.jsonl")
    said = str(told.value)
    assert "4 of 6 prompts" in said
    assert "1 reached the token limit" in said
    assert "2 would be rejected again" in said
    assert said.endswith("the other answers are kept: run the same command again to request only the missing ones")
    errors = [json.loads(line) for line in (tmp_path / "toy.errors.jsonl").read_text().splitlines()]
    assert [row["fault"] for row in errors] == ["length", "server", "form", "content"]


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_was_down_is_tried_anew(status: int, tmp_path: Path) -> None:
    well = False
    with serving(lambda body, number: echo(body, number) if well else Reply("", status=status)) as server:
        asks = responder(server.url, give_up_after=3, concurrency=1)
        with pytest.raises(UserError, match=f"HTTP {status}"):
            asks.respond([prompt(n) for n in range(9)], SETTINGS, tmp_path / "toy.jsonl")
        assert len(server.asked) == (1 if status == 401 else 3)
        well = True
        assert len(asks.respond([prompt(n) for n in range(9)], SETTINGS, tmp_path / "toy.jsonl")) == 9


def test_whoever_waits_for_a_turn_is_not_waited_for(tmp_path: Path) -> None:
    def told(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    started = time.monotonic()
    with serving(echo) as server:
        slow = responder(server.url, requests_per_minute=1)
        with pytest.raises(KeyboardInterrupt):
            slow.respond([prompt(n) for n in range(3)], SETTINGS, tmp_path / "toy.jsonl", told)
        assert len(server.asked) == 1
    assert time.monotonic() - started < 50


def test_ctrl_c_ends_the_program_though_the_server_does_not_answer(tmp_path: Path) -> None:
    soon, never = threading.Event(), threading.Event()

    def answer(body: dict[str, Any], number: int) -> Reply:
        waits = {"1": soon, "2": never, "3": never}.get(body["messages"][-1]["content"][9])
        if waits is not None:
            waits.wait(timeout=600)
        return echo(body, number)

    cache = tmp_path / "cache.jsonl"
    (tmp_path / "prompts.jsonl").write_text("".join(prompt(n).model_dump_json() + "\n" for n in range(6)))
    with serving(answer) as server:
        running = killable.start(tmp_path / "errors", killed_answering.ask_a_server, server.url, tmp_path)
        try:
            while running.is_alive() and (len(server.asked) < 4 or not cache.exists()):
                time.sleep(0.05)
            assert running.pid is not None
            os.kill(running.pid, signal.SIGINT)
            time.sleep(0.3)
            soon.set()
            running.join(timeout=60)
            ended = running.exitcode
        finally:
            running.kill()
            never.set()
        assert ended == 1, "it did not end"
        assert (tmp_path / "errors").read_text().strip().endswith("KeyboardInterrupt")
        assert len(server.asked) == 4
    kept = [json.loads(line)[1]["id"] for line in cache.read_text().splitlines() if line]
    assert sorted(kept) == ["row 0", "row 1"]


def test_an_empty_answer_is_the_models_own(tmp_path: Path) -> None:
    with serving(lambda _body, _number: says("")) as server:
        (row,) = responder(server.url).respond([prompt(0)], SETTINGS, tmp_path / "toy.jsonl")
    assert row.response == ""


def test_other_settings_are_other_answers(tmp_path: Path) -> None:
    keys = [
        responder("http://x").model_key(SETTINGS),
        responder("http://y").model_key(SETTINGS),
        responder("http://x", model="n").model_key(SETTINGS),
        responder("http://x", extra={"top_k": 1}).model_key(SETTINGS),
        responder("http://x").model_key(GenerationSettings(max_new_tokens=8)),
    ]
    assert len(set(keys)) == 5
    assert responder("http://x", concurrency=1, retries=9).model_key(SETTINGS) == keys[0]


def test_further_fields_reach_the_server(tmp_path: Path) -> None:
    with serving(echo) as server:
        responder(server.url, extra={"top_k": 1}).respond([prompt(0)], SETTINGS, tmp_path / "toy.jsonl")
    assert server.asked[0]["top_k"] == 1
