"""A run whose answers come from a server: what is asked, counted, left out, and asked again of another model."""

import pytest

from helpers.misbehaving import Reply, says, serving
from unsay import api
from unsay.config import parse_config
from unsay.data.typography import Style
from unsay.errors import UserError
from unsay.files import read_rows
from unsay.records import Response

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


def config(url, model="m", suites="contrast"):
    return parse_config(
        f"evaluation:\n  {{judge: rules, suites: [{suites}], limit: 3, responder: {{url: '{url}', model: {model}}}}}\n",
        "test",
    )


def answering(_body, _number) -> Reply:
    return says("Here is what you asked for.", tokens=(5, 3))


def test_a_server_answers_in_place_of_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.run.directory.load", None)
    with serving(answering) as server:
        scores = api.evaluate(config(server.url), tmp_path / "run")
        assert len(server.asked) == 3
        (row,) = scores.rows
        assert (row.suite, row.n, row.safe) == ("contrast", 3, 3)
        (cost,) = [row for row in scores.cost if row.stage == "evaluate-before"]
        assert (cost.text_tokens, cost.image_tokens) == (3 * (5 + 3), 0)
        assert scores.settings["chat_template"] == "the server's own"
        rows = read_rows(tmp_path / "run" / "responses" / "contrast.before.jsonl", Response)
        assert {row.response for row in rows} == {"Here is what you asked for."}
        again = api.evaluate(config(server.url), tmp_path / "run")
        assert len(server.asked) == 3
        assert all(row.reused for row in again.cost)
        other = api.evaluate(config(server.url, model="n"), tmp_path / "run")
        assert len(server.asked) == 6
        assert not {row.stage: row.reused for row in other.cost}["evaluate-before"]


def test_a_suite_that_is_drawn_anew_is_answered_anew(tmp_path, monkeypatch):
    with serving(answering) as server:
        api.evaluate(config(server.url, suites="contrast-typographic"), tmp_path / "run")
        assert len(server.asked) == 3
        monkeypatch.setattr("unsay.suites.twins.STYLE", Style(size=16, margin=4))
        monkeypatch.setattr("unsay.suites.twins.VERSION", 0)
        again = api.evaluate(config(server.url, suites="contrast-typographic"), tmp_path / "run")
        assert len(server.asked) == 6  # the prompts are the same, their pictures are not
    assert not {row.stage: row.reused for row in again.cost}["evaluate-before"]


ADAPTER = [{"id": "m", "object": "model", "parent": "base"}]


def test_a_served_adapter_is_proved_to_act_before_any_suite(tmp_path):
    with serving(answering, ADAPTER) as server, pytest.raises(UserError, match="adapter 'm' changes nothing"):
        api.evaluate(config(server.url), tmp_path / "run")
    assert [body["model"] for body in server.asked].count("base") == 6
    assert not list((tmp_path / "run" / "responses").glob("contrast*"))
    assert not (tmp_path / "run" / "scores.json").exists()

    def acting(body, _number) -> Reply:
        return says(f"Here is what {body['model']} says.")

    with serving(acting, ADAPTER) as server:
        scores = api.evaluate(config(server.url), tmp_path / "run")
        assert scores.settings["served_adapter"] == "changes 3 of 3 answers of base"
        assert len(server.asked) == 3 * 3 + 3
        api.evaluate(config(server.url), tmp_path / "run")
        assert len(server.asked) == 3 * 3 + 3  # a finished stage proves nothing again


def test_what_a_server_cannot_do_is_refused_where_it_was_named(tmp_path):
    with pytest.raises(UserError, match="suite 'answer-loss': needs the model itself"):
        api.evaluate(config("http://127.0.0.1:1/v1", suites="contrast, answer-loss"), tmp_path / "run")
    assert not (tmp_path / "run" / "responses").exists()
