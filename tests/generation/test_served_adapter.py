"""A served adapter must act: one that is listed and changes nothing is an error before any suite is answered."""

from pathlib import Path

import pytest

from helpers.misbehaving import says, serving
from tests.generation.test_server import prompt
from unsay.errors import UserError
from unsay.generation import GenerationSettings
from unsay.generation.served_adapter import ASKED, Effect, probes, prove_adapter
from unsay.generation.server import EndpointResponderSettings
from unsay.records import Kind

SETTINGS = GenerationSettings(max_new_tokens=9, temperature=0.7)
CARDS = [{"id": "base", "object": "model"}, {"id": "mine", "object": "model", "parent": "base"}]
SUITES = {"toy": [prompt(number) for number in range(8)]}


def ignoring(body, _):
    """A server that answers with the base whatever name it is given."""
    return says(f"To {body['messages'][-1]['content']}.")


def acting(body, _):
    return says(f"{body['model']} to {body['messages'][-1]['content']}.")


def effect(server, folder, **more):
    settings = {"url": server.url, "model": "mine", "retries": 0, "concurrency": 1} | more
    return prove_adapter(EndpointResponderSettings(**settings), SUITES, SETTINGS, folder)


def test_an_adapter_that_acts_is_counted(tmp_path):
    with serving(acting, CARDS) as server:
        assert effect(server, tmp_path) == Effect("base", 8, 8, 0)
        assert str(effect(server, tmp_path)) == "changes 8 of 8 answers of base"
    names = [body["model"] for body in server.asked]
    assert names == 2 * (8 * ["base"] + 8 * ["mine"] + 8 * ["base"])  # the second time nothing is taken from the first
    assert {body["temperature"] for body in server.asked} == {0.0}  # samples differ anyway


def test_a_silent_no_op_is_an_error_that_says_what_to_do(tmp_path):
    says_what = r"adapter 'mine' changes nothing.*8 prompts\. Serve the merged"
    with serving(ignoring, CARDS) as server, pytest.raises(UserError, match=says_what) as caught:
        effect(server, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_adapter_must_change_more_than_the_server_s_own_unsteadiness(tmp_path):
    """Servers that batch requests as they come do not repeat an answer to the word."""

    def unsteady(body, number):
        return says(f"{number >= 8} to {body['messages'][-1]['content']}." if number % 8 < 3 else "So.")

    says_what = r"\(3 differ, and 3 when the model is asked twice\)"
    with serving(unsteady, CARDS) as server, pytest.raises(UserError, match=says_what):
        effect(server, tmp_path)

    def mostly_steady(body, number):
        return says(f"{body['model']} {number == 16}")  # one answer of the base is another when it is asked again

    with serving(mostly_steady, CARDS) as server:
        found = effect(server, tmp_path)
    assert found == Effect("base", 8, 8, 1)
    assert str(found) == "changes 8 of 8 answers of base; base, asked again, 1"


def test_the_model_below_is_told_by_the_server_or_by_the_settings(tmp_path):
    with serving(acting, CARDS) as server:
        assert effect(server, tmp_path, model="base") is None  # no adapter
        assert effect(server, tmp_path, model="base:mine").base_model == "base"  # as SGLang also takes it
        assert effect(server, tmp_path, model="mine", base_model="other").base_model == "other"
        with pytest.raises(UserError, match="base_model: 'mine' is the model itself"):
            effect(server, tmp_path, base_model="mine")
    with serving(acting) as server:  # without a list of models
        assert effect(server, tmp_path) is None
        assert not server.asked


def test_attacks_are_asked_first_and_fifty_at_most():
    attacks = [prompt(number) for number in range(30)]
    harmless = [prompt(number).model_copy(update={"kind": Kind.BENIGN}) for number in range(30, 90)]
    chosen = probes({"harmless": harmless, "attacks": attacks, "again": attacks})
    assert len(chosen) == ASKED
    assert {row.id for row in attacks} == {row.id for row in chosen[:30]}
    assert {row.kind for row in chosen[30:]} == {Kind.BENIGN}


def test_a_prompt_without_an_answer_is_no_equal_answer(tmp_path: Path):
    def broken(body, number):
        return says("", finish="content_filter") if body["model"] == "mine" else acting(body, number)

    with (
        serving(broken, CARDS) as server,
        pytest.raises(UserError, match="8 of 8 prompts of suite 'toy' got no answer"),
    ):
        effect(server, tmp_path)
    assert (tmp_path / "adapter" / "answers.errors.jsonl").is_file()
