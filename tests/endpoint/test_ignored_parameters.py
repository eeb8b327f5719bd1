"""Models that think, and servers that take no `max_tokens` or no `temperature`: asked otherwise, and said so."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.misbehaving import Reply, says, serving
from unsay import api
from unsay.config import parse_config
from unsay.endpoint import ChatClient, EndpointError, EndpointSettings, Fault, IgnoredParameters, describe_ignored
from unsay.endpoint.faults import refused_parameter
from unsay.errors import UserError
from unsay.generation import GenerationSettings
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.judges import judge_all
from unsay.judges.base import EndpointJudgeSettings, as_attack
from unsay.judges.endpoint_judge import EndpointJudge
from unsay.judges.panel import PanelJudge
from unsay.judges.rules import RulesJudge
from unsay.records import Kind, Label, Modality, Prompt
from unsay.run.cautions import sampling_cautions
from unsay.run.evaluate import ignored_parameters as told_of_run

MAX_TOKENS = {
    "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
    "instead.",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": "unsupported_parameter",
}
TEMPERATURE = {
    "message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
    "supported.",
    "type": "invalid_request_error",
    "param": "temperature",
    "code": "unsupported_value",
}
BOTH = {"max_tokens": "sent as max_completion_tokens", "temperature": "left to the server"}
SAFE = json.dumps({"reason": "so", "label": "safe"})
LIMITED = says("", finish="length", tokens=(5, 16))


def no(error: Any) -> Reply:
    return Reply({"error": error}, status=400)


def thinking(body: dict[str, Any], _: int) -> Reply:
    """As OpenAI's o-series and GPT-5 answer, whoever is asking: a verdict serves as an answer too."""
    if "max_tokens" in body:
        return no(MAX_TOKENS)
    return no(TEMPERATURE) if "temperature" in body else says(SAFE)


def counted(reasoning: int) -> Reply:
    """Without a word, and only the usage says why."""
    reply = says("", finish="length", tokens=(5, 16))
    assert isinstance(reply.body, dict)
    reply.body["usage"]["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return reply


def client_at(url: str, **more: Any) -> ChatClient:
    return ChatClient(EndpointSettings(**({"url": url, "model": "m", "retries": 0} | more)))


def judge_at(url: str, folder: Path, **more: Any) -> EndpointJudge:
    given = {"url": url, "model": "m", "retries": 0, "cache": folder / "verdicts.jsonl", "fluency": False}
    return EndpointJudge(EndpointJudgeSettings(**(given | {"concurrency": 1} | more)))


def responder_at(url: str, **more: Any) -> EndpointResponder:
    return EndpointResponder(EndpointResponderSettings(url=url, model="m", retries=0, concurrency=1, **more))


def pairs(count: int) -> list[Any]:
    return [
        as_attack(str(n), f"[request {n}]", f"Here is an answer of several words, number {n}.") for n in range(count)
    ]


def prompts(count: int) -> list[Prompt]:
    return [
        Prompt(id=str(n), suite="toy", kind=Kind.ATTACK, modality=Modality.TEXT, prompt=f"[request {n}]",
               request=f"[request {n}]", group=str(n))
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (MAX_TOKENS, "max_tokens"),
        (TEMPERATURE, "temperature"),
        (MAX_TOKENS | {"param": None, "code": "invalid_request_body"}, "max_tokens"),
        ({"message": "Unsupported parameter: 'temperature' is not supported with this model.", "param": "temperature"},
         "temperature"),
        ({"message": "litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.0. Only temperature=1 "
                     "is supported. For gpt-5.1, temperature is supported when reasoning_effort='none'", "code": "400"},
         "temperature"),
        ({"message": "`temperature` is deprecated for this model."}, "temperature"),
        ({"message": "invalid temperature: only 1 is allowed for this model", "type": "invalid_request_error"},
         "temperature"),
        ({"message": "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
          "code": "invalid_parameter_combination", "param": "max_tokens"}, "max_tokens"),
        # The value is wrong, not the parameter: vLLM, SGLang, OpenAI.
        ({"message": "max_tokens must be at least 1, got -186.", "param": None, "code": 400}, None),
        ({"message": "temperature must be non-negative, got -1.0.", "param": "temperature", "code": 400}, None),
        ({"message": "max_tokens is too large: 9. This model supports at most 8 tokens", "param": "max_tokens"}, None),
        # Something else is not taken.
        ({"message": "Unsupported parameter: 'seed'", "param": "seed", "code": "unsupported_parameter"}, None),
        ({"message": "'temperature' and 'messages' are not supported", "param": "messages"}, None),
        ({"message": "Image input is not supported. The text was: what temperature is it?"}, None),
        ({"message": "This model's maximum context length is 9 tokens", "code": "context_length_exceeded"}, None),
        ({}, None), ("max_tokens is not supported", None), (None, None), ([], None),
    ],
)  # fmt: skip
def test_which_parameter_a_server_does_not_take(body: Any, name: str | None) -> None:
    assert refused_parameter(body, ["max_tokens", "temperature"]) == name
    assert refused_parameter(body, ["seed"]) is None


def test_a_judge_that_thinks_is_asked_otherwise_and_keeps_its_key(tmp_path: Path) -> None:
    with serving(thinking) as server:
        judge = judge_at(server.url, tmp_path)
        key = judge.key
        assert {verdict.label for verdict in judge_all(judge, pairs(3))} == {Label.SAFE}
        assert judge.ignored_parameters == BOTH
        assert judge.key == key
    sent = [{name for name in body if name.startswith(("max", "temp"))} for body in server.asked]
    assert (
        sent
        == [{"max_tokens", "temperature"}, {"max_completion_tokens", "temperature"}] + [{"max_completion_tokens"}] * 3
    )
    assert {body.get("max_completion_tokens", body.get("max_tokens")) for body in server.asked} == {512}
    assert all("response_format" in body for body in server.asked)


def test_many_threads_learn_it_and_no_row_is_lost(tmp_path: Path) -> None:
    with serving(thinking) as server:
        judge = judge_at(server.url, tmp_path, concurrency=6, give_up_after=2)
        assert {verdict.label for verdict in judge_all(judge, pairs(12))} == {Label.SAFE}
    assert len(server.asked) <= 6 * 3 + 6


def test_what_verdicts_were_asked_with_outlives_the_process(tmp_path: Path) -> None:
    with serving(thinking) as server:
        judge_all(judge_at(server.url, tmp_path), pairs(2))
        before = len(server.asked)
        later = judge_at(server.url, tmp_path)
        assert {verdict.label for verdict in judge_all(later, pairs(2))} == {Label.SAFE}
        assert len(server.asked) == before
    assert later.ignored_parameters == BOTH
    assert judge_at(server.url, tmp_path, rubric="strongreject").ignored_parameters == {}
    panel = PanelJudge([RulesJudge(), later])
    assert told_of_run(None, panel) == {f"verdicts.{name}": done for name, done in BOTH.items()}
    assert told_of_run(None, RulesJudge()) == {}


def test_a_note_torn_by_a_kill_is_written_again(tmp_path: Path) -> None:
    noted = IgnoredParameters(tmp_path / "cache.jsonl", "k")
    noted.note({"temperature"})
    noted.note({"temperature"})
    path = tmp_path / "cache.sent.jsonl"
    assert path.read_text().count("temperature") == 1
    path.write_text('[1\n{}\n["other", ["max_tokens"]]\n["k", ["top_p", "temp' + path.read_text() + '["k", ["temper')
    again = IgnoredParameters(tmp_path / "cache.jsonl", "k")
    assert again.names == {"temperature"}
    again.note({"temperature", "max_tokens"})
    assert IgnoredParameters(tmp_path / "cache.jsonl", "k").names == {"temperature", "max_tokens"}


def test_a_responder_that_thinks_is_asked_otherwise_and_its_answers_are_kept(tmp_path: Path) -> None:
    generation = GenerationSettings(max_new_tokens=900, seed=3)
    with serving(thinking) as server:
        asks = responder_at(server.url, extra={"reasoning_effort": "low"})
        asks.respond(prompts(2), generation, tmp_path / "toy.before.jsonl")
        assert asks.ignored_parameters == BOTH
        last = server.asked[-1]
        assert (last["max_completion_tokens"], last["seed"], last["reasoning_effort"]) == (900, 3, "low")
        assert len(server.asked) == 4
        later = responder_at(server.url, extra={"reasoning_effort": "low"})
        assert len(later.respond(prompts(2), generation, tmp_path / "toy.before.jsonl")) == 2
        assert len(server.asked) == 4
    assert later.ignored_parameters == BOTH
    assert later.model_key(generation) == asks.model_key(generation)


def test_what_a_user_sends_in_place_of_a_parameter_stands(tmp_path: Path) -> None:
    with serving(thinking) as server:
        asks = responder_at(server.url, extra={"max_completion_tokens": 7})
        asks.respond(prompts(1), GenerationSettings(), tmp_path / "toy.jsonl")
    assert server.asked[-1]["max_completion_tokens"] == 7


def test_a_no_that_stays_a_no_is_asked_once_more_and_teaches_nothing() -> None:
    with serving(lambda _body, _number: no(MAX_TOKENS)) as server:
        client = client_at(server.url)
        with pytest.raises(EndpointError, match=r"\(unsupported_parameter, max_tokens\)") as caught:
            client.complete([{"role": "user", "content": "a"}], max_tokens=9, temperature=0.0)
    assert caught.value.fault is Fault.FORM
    assert len(server.asked) == 2
    assert client.ignored == frozenset()


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Unsupported parameter: 'seed'", "param": "seed", "code": "unsupported_parameter"},
        {"message": "max_tokens must be at least 1, got -186.", "param": None, "code": 400},
        "bad request",
    ],
)
def test_any_other_400_is_asked_once_and_is_the_requests_form(error: Any) -> None:
    with serving(lambda _body, _number: no(error)) as server:
        with pytest.raises(EndpointError) as caught:
            client_at(server.url).complete([{"role": "user", "content": "a"}], max_tokens=9, temperature=0.0)
        assert caught.value.fault is Fault.FORM
    assert len(server.asked) == 1


def test_asking_again_waits_for_its_turn() -> None:
    with serving(thinking) as server:
        client = client_at(server.url)
        turns = iter([True, True, False])
        client._pace.wait = lambda: next(turns)  # type: ignore[method-assign]
        with pytest.raises(EndpointError, match="interrupted"):
            client.complete([{"role": "user", "content": "a"}], max_tokens=9, temperature=0.0)
    assert len(server.asked) == 2


USED_UP = no({
    "message": "Could not finish the message because max_tokens or model output limit was reached. Please try again "
    "with higher max_tokens.", "type": "invalid_request_error", "param": None, "code": None,
})  # fmt: skip


@pytest.mark.parametrize("reply", [counted(16), USED_UP], ids=["counted", "an error"])
def test_thinking_that_used_up_the_limit_is_no_answer(reply: Reply, tmp_path: Path) -> None:
    with serving(lambda _body, _number: reply) as server:
        (verdict,) = judge_all(judge_at(server.url, tmp_path), pairs(1))
        assert len(server.asked) == 1
        with pytest.raises(UserError, match=r"1 reached the token limit .* evaluation\.generation\.max_new_tokens"):
            responder_at(server.url).respond(prompts(1), GenerationSettings(), tmp_path / "toy.jsonl")
    assert verdict.label is Label.FAILED
    assert "the token limit" in verdict.rationale
    assert verdict.rationale.endswith("(raise the judge's max_tokens, or start its server with thinking off)")
    assert not (tmp_path / "toy.jsonl").exists()


def test_a_model_that_takes_no_max_tokens_thinks_though_nothing_says_so(tmp_path: Path) -> None:
    with (
        serving(lambda body, _number: no(MAX_TOKENS) if "max_tokens" in body else LIMITED) as server,
        pytest.raises(UserError, match="reasoning used up the token limit before its first word"),
    ):
        responder_at(server.url).respond(prompts(1), GenerationSettings(), tmp_path / "toy.jsonl")


@pytest.mark.parametrize("reply", [LIMITED, says(" \n", finish="length"), counted(0)])
def test_without_a_thought_an_empty_answer_is_the_models_own_and_no_verdict(reply: Reply, tmp_path: Path) -> None:
    """A model that has come apart may say nothing but tokens without text."""
    with serving(lambda _body, _number: reply) as server:
        (row,) = responder_at(server.url).respond(prompts(1), GenerationSettings(), tmp_path / "toy.jsonl")
        (verdict,) = judge_all(judge_at(server.url, tmp_path), pairs(1))
    assert (row.response, row.finish_reason) == ("", "length")
    assert judge_all(RulesJudge(), [(prompts(1)[0], row)])[0].label is Label.DEGENERATE
    assert verdict.label is Label.FAILED
    assert "token limit came before its first word (raise the judge's max_tokens" in verdict.rationale


@pytest.mark.parametrize("error", [{"code": "insufficient_quota"}, {"type": "exceeded_current_quota_error"}])
def test_an_account_without_credit_is_not_waited_for(error: dict[str, str], tmp_path: Path) -> None:
    """OpenAI and Moonshot say it with the 429 of a server that has no time."""
    told = r"HTTP 429 .* check url, model and OPENAI_API_KEY \(and that its account has credit\)"
    with (
        serving(lambda _body, _number: Reply({"error": error}, status=429)) as server,
        pytest.raises(UserError, match=told),
    ):
        judge_all(judge_at(server.url, tmp_path), pairs(3))
    assert len(server.asked) == 1


def test_a_host_that_takes_no_connection_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops what comes is no slow answer of a server that is there."""
    dropped = type("ConnectTimeout", (Exception,), {})  # the transport's own comes under another package's name
    client = client_at("http://127.0.0.1:9/v1")

    def create(**_: Any) -> None:
        raise client._openai.APITimeoutError(request=None) from dropped()

    monkeypatch.setattr(client._client.chat.completions, "create", create)
    with pytest.raises(EndpointError, match=r"no connection to \S+ \(ConnectTimeout\)") as caught:
        client.complete([])
    assert caught.value.fault is Fault.AWAY
    assert (trouble := client.trouble()) is not None
    assert "start the server" in str(trouble)


def test_cautions_say_who_was_not_greedy() -> None:
    both = {"answers.temperature": "left to the server", "verdicts.temperature": "left to the server"}
    answers, verdicts = sampling_cautions(both, GenerationSettings())
    assert "temperature 0 (greedy) was asked for" in answers.text
    assert "judge's server takes no temperature" in verdicts.text
    assert "temperature 0.7 was asked for" in sampling_cautions(both, GenerationSettings(temperature=0.7))[0].text
    assert sampling_cautions({"answers.max_tokens": "sent as max_completion_tokens"}, GenerationSettings()) == []
    assert describe_ignored([]) == {}


def test_a_run_says_in_scores_and_report_what_was_really_sent(tiny_folder: Path, tmp_path: Path) -> None:
    questions = tmp_path / "mine.jsonl"
    questions.write_text('{"id": "1", "prompt": "[request]", "kind": "attack"}\n')
    with serving(thinking) as server:
        where = f"{{url: '{server.url}', model: m, retries: 0}}"
        config = parse_config(
            f"model: {tiny_folder}\nevaluation:\n  responder: {where}\n  judge: endpoint\n"
            f"  judge_settings: {where[:-1]}, fluency: false, cache: '{tmp_path / 'verdicts.jsonl'}'}}\n",
            "test",
        )
        first = api.evaluate(config, tmp_path / "run", suite_file=questions)
        asked = len(server.asked)
        second = api.evaluate(config, tmp_path / "run", suite_file=questions)
        assert len(server.asked) == asked
    for scores in (first, second):
        texts = [caution.text for caution in scores.warnings]
        assert sum("takes no temperature" in text for text in texts) == 2
        assert scores.settings["answers.temperature"] == scores.settings["verdicts.temperature"] == "left to the server"
        assert scores.settings["answers.max_tokens"] == "sent as max_completion_tokens"
    page = (tmp_path / "run/report.html").read_text()
    assert "The server that answered takes no temperature" in page
    assert "verdicts.temperature" in page
