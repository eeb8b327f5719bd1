"""The client of a chat server, the pace of its requests, and work on many of them at once."""

import threading
import time
from contextlib import closing

import pytest

from helpers.misbehaving import Reply, says, serving
from unsay.endpoint import ChatClient, EndpointError, EndpointSettings, Fault, Meter, in_parallel
from unsay.endpoint.parallel import Pace
from unsay.errors import UserError


def test_the_key_is_sent_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "a-secret")
    reached = EndpointSettings(url="http://127.0.0.1:9/v1", model="m", key_variable="MINE", retries=0)
    client = ChatClient(reached)
    assert client._client.api_key == "a-secret"
    with pytest.raises(EndpointError) as caught:
        client.complete([])
    assert "a-secret" not in f"{caught.value}{reached}"


def test_an_address_that_is_none_is_one_line() -> None:
    with pytest.raises(UserError, match=r"url: 'http://localhost:\$\{PORT\}/v1' is no address of a server"):
        ChatClient(EndpointSettings(url="http://localhost:${PORT}/v1", model="m"))


def test_a_page_for_people_in_place_of_a_list_of_models_names_no_parent() -> None:
    with serving(lambda _body, _number: says(""), "<html>It works!</html>") as server:
        assert ChatClient(EndpointSettings(url=server.url, model="m")).parent() is None


def test_the_pace_spaces_requests_evenly() -> None:
    now = 0.0
    pace = Pace(30, clock=lambda: now)
    assert [pace.reserve() for _ in range(3)] == [0, 2, 4]
    now = 7.0
    assert [pace.reserve() for _ in range(2)] == [0, 2]
    assert Pace(None).reserve() == 0


def test_parallel_work_keeps_indices_and_errors() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise RuntimeError("no")
        return item * item

    found = dict(in_parallel(work, [1, 2, 3], 2))
    assert (found[0], found[2]) == (1, 9)
    assert isinstance(found[1], RuntimeError)
    assert list(in_parallel(work, [], 2)) == []


def test_who_waits_for_a_turn_can_be_sent_away() -> None:
    pace, told = Pace(1), list[bool]()
    assert pace.wait()
    waiting = threading.Thread(target=lambda: told.append(pace.wait()))
    waiting.start()
    pace.stop()
    waiting.join(timeout=30)
    assert told == [False]
    assert not pace.wait()
    pace.resume()
    assert Pace(None).wait()


def test_turns_that_nobody_took_are_free_again() -> None:
    pace = Pace(30, clock=lambda: 0.0)
    assert [pace.reserve() for _ in range(4)] == [0, 2, 4, 6]
    pace.stop()
    assert pace.reserve() == 2


def test_whoever_is_interrupted_waits_for_nobody_and_loses_nothing_that_arrives() -> None:
    together, told, never = threading.Barrier(3), threading.Event(), threading.Event()
    begun, kept = list[int](), list[int]()

    def work(item: int) -> None:
        begun.append(item)
        if item < 3:
            together.wait()
        if item == 1:
            told.wait(timeout=60)
            kept.append(item)
        elif item > 1:
            never.wait(timeout=60)

    started = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        closing(in_parallel(work, range(9), 3, told.set)) as found,
    ):
        for _ in found:
            raise KeyboardInterrupt
    assert time.monotonic() - started < 50
    assert kept == [1]
    assert set(begun) <= {0, 1, 2, 3}
    never.set()


def test_an_error_that_is_no_rows_own_reaches_the_caller() -> None:
    def work(_: int) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(in_parallel(work, [1, 2], 2))


def test_a_client_that_was_stopped_sends_nothing_until_it_begins_again() -> None:
    with serving(lambda _body, _number: says("hi")) as server:
        client = ChatClient(EndpointSettings(url=server.url, model="m"))
        client.stop()
        with pytest.raises(EndpointError, match="interrupted"):
            client.complete([{"role": "user", "content": "a"}])
        assert not server.asked
        client.begin()
        assert client.complete([{"role": "user", "content": "a"}]).text == "hi"
    assert client.trouble() is None


def test_a_rows_own_fault_is_told_from_the_servers() -> None:
    empty = Reply({"choices": [{"index": 0, "message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}]})
    filtered = Reply({"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "content_filter"}]})
    expected = [(empty, Fault.CONTENT), (filtered, Fault.CONTENT), (Reply({"choices": []}), Fault.SERVER),
                (Reply("", status=429), Fault.AWAY), (Reply("", status=408), Fault.SERVER),
                (Reply("", status=405), Fault.FORM)]  # fmt: skip
    with serving(lambda _body, number: expected[number][0]) as server:
        client = ChatClient(EndpointSettings(url=server.url, model="m", retries=0))
        for _, fault in expected:
            with pytest.raises(EndpointError) as caught:
                client.complete([{"role": "user", "content": "a"}])
            assert caught.value.fault is fault


def test_a_meter_by_hand() -> None:
    meter = Meter(EndpointSettings(url="http://x", model="m", price_in=2.0, price_out=10.0))
    meter.count(1000, 100)
    meter.count(500_000, 0)
    meter.count()
    assert meter.cost == pytest.approx((501_000 * 2 + 100 * 10) / 1e6)
    assert (meter.requests, meter.tokens_in, meter.tokens_out, meter.tokens) == (3, 501_000, 100, 501_100)
