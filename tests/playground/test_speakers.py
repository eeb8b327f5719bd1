"""The playground's answers are those of an evaluation, whoever else is asking."""

import json
import threading
from itertools import zip_longest
from pathlib import Path

import pytest
from peft.tuners.lora import LoraLayer
from PIL import Image

from helpers.misbehaving import Reply, serving
from tests.models.test_models import acting
from unsay.endpoint import EndpointError
from unsay.errors import UserError
from unsay.generation.responses import generate
from unsay.generation.settings import GenerationSettings
from unsay.models import VLM, detach
from unsay.models.adapter_scale import AdapterScale
from unsay.playground import speakers
from unsay.playground.speakers import LocalSpeaker, ServerSpeaker, named_server
from unsay.records import Kind, Modality, Phase, Prompt

SETTINGS = GenerationSettings(max_new_tokens=12)


def asked(words: str, image: Path | None = None) -> Prompt:
    modality = Modality.TEXT if image is None else Modality.IMAGE
    return Prompt(
        id=words, suite="play", kind=Kind.BENIGN, modality=modality, prompt=words, request=words, group=words,
        image=None if image is None else str(image),
    )  # fmt: skip


def last(speaker: LocalSpeaker, *question: object) -> tuple[str, int, str | None]:
    *_, spoken = speaker.say(*question)
    return spoken.text, spoken.tokens, spoken.finish_reason


def evaluated(vlm: VLM, prompt: Prompt) -> tuple[str, int, str]:
    ((row,),) = generate(vlm, [prompt], SETTINGS)
    return row.response, row.tokens, row.finish_reason


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.mark.parametrize("pictured", [False, True])
def test_answers_are_those_of_an_evaluation(any_vlm: VLM, picture: Path, pictured: bool) -> None:
    prompt = asked("How do I bake bread?", picture if pictured else None)
    original = evaluated(any_vlm, prompt)
    adapted = acting(any_vlm)
    unlearned = evaluated(adapted, prompt)
    speaker = LocalSpeaker(adapted, SETTINGS)
    assert speaker.gradual
    for _ in range(2):  # in any order, and again
        assert last(speaker, Phase.AFTER, prompt) == unlearned
        assert last(speaker, Phase.BEFORE, prompt) == original
    assert last(speaker, Phase.AFTER, prompt, 0.0) == original
    assert original != unlearned


def test_answers_of_other_families_pass_through_the_library(any_vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = asked("Say hello.")
    speaker = LocalSpeaker(acting(any_vlm), SETTINGS)
    wanted = [last(speaker, phase, prompt) for phase in Phase]
    monkeypatch.setattr(speakers, "greedy_is_exact", lambda *_: False)
    assert [last(speaker, phase, prompt) for phase in Phase] == wanted
    both = [speaker.say(phase, prompt) for phase in Phase]
    *_, (before, after) = zip_longest(*both)
    ends = [line for line in (before, after) if line is not None]
    assert ends[-1].finish_reason is not None


@pytest.mark.parametrize("exact", [True, False])
def test_four_answers_at_once_are_the_same_as_one_by_one(
    tiny_vlm: VLM, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    speaker = LocalSpeaker(acting(tiny_vlm), SETTINGS)
    questions = [
        (Phase.BEFORE, asked("Say hello.")),
        (Phase.AFTER, asked("Say hello.")),
        (Phase.AFTER, asked("Name three birds."), 0.5),
        (Phase.AFTER, asked("Say hello."), 1.5),
    ]
    alone = [last(speaker, *question) for question in questions]
    assert len({text for text, _, _ in alone}) == 4, "the strengths must be told apart"
    if not exact:
        monkeypatch.setattr(speakers, "greedy_is_exact", lambda *_: False)
    streams = [speaker.say(*question) for question in questions]
    ends = [None] * len(streams)
    for round_ in zip_longest(*streams):
        ends = [spoken or end for spoken, end in zip(round_, ends, strict=True)]
    assert [(end.text, end.tokens, end.finish_reason) for end in ends] == alone
    found: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda n=n, q=q: found.update({n: last(speaker, *q)})) for n, q in enumerate(questions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == alone


def test_an_answer_that_nobody_reads_ends(tiny_vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speakers, "greedy_is_exact", lambda *_: False)
    speaker = LocalSpeaker(acting(tiny_vlm), GenerationSettings(max_new_tokens=400))
    running = threading.active_count()
    stream = speaker.say(Phase.AFTER, asked("Say hello."))
    next(stream)
    stream.close()
    for thread in threading.enumerate()[running:]:
        thread.join(timeout=20)
    assert threading.active_count() == running
    assert speaker._turn.acquire(timeout=5)


def test_a_warm_speaker_answers_as_a_cold_one(tiny_vlm: VLM) -> None:
    prompt = asked("Say hello.")
    original = evaluated(tiny_vlm, prompt)
    speaker = LocalSpeaker(acting(tiny_vlm), SETTINGS)
    speaker.warm_up()
    assert last(speaker, Phase.BEFORE, prompt) == original


def test_text_grows_and_never_ends_in_half_a_character(tiny_vlm: VLM) -> None:
    speaker = LocalSpeaker(acting(tiny_vlm), GenerationSettings(max_new_tokens=40))
    lines = list(speaker.say(Phase.BEFORE, asked("Which colour has the sky at noon?")))
    assert [line.tokens for line in lines[:-1]] == list(range(1, len(lines)))
    assert not any(line.text.endswith("\ufffd") for line in lines[:-1])
    assert {line.finish_reason for line in lines[:-1]} == {None}


def test_a_strength_scales_every_layer_and_goes_back(tiny_vlm: VLM) -> None:
    adapted = acting(tiny_vlm)
    scale = AdapterScale(adapted)
    layers = [module for module in adapted.model.modules() if isinstance(module, LoraLayer)]
    full = [dict(layer.scaling) for layer in layers]
    half = scale.set(0.5)
    assert [layer.scaling["default"] for layer in layers] == [0.5 * old["default"] for old in full]
    assert half.adapter_key not in (None, adapted.adapter_key)
    assert scale.set(0.0).adapter_key is None
    assert scale.set(1.0).adapter_key == adapted.adapter_key
    assert [dict(layer.scaling) for layer in layers] == full


@pytest.mark.parametrize(
    ("kind", "ends", "settings", "named", "changed"),
    [
        ("IA3Config", ("k_proj", "v_proj"), {"feedforward_modules": []}, "ia3", lambda weight: weight.fill_(3.0)),
        # DoRA's magnitudes act at scale 0, too: that is not the original.
        ("LoraConfig", ("o_proj", "down_proj"), {"use_dora": True}, "magnitude", lambda weight: weight.mul_(-3.0)),
    ],
)
def test_what_is_more_or_other_than_lora_is_on_or_off(tiny_vlm: VLM, kind, ends, settings, named, changed) -> None:
    import peft

    prompt = asked("Say hello.")
    original = evaluated(tiny_vlm, prompt)
    targets = [name for name, _ in tiny_vlm.base.named_modules() if name.endswith(ends) and "vis" not in name]
    model = peft.get_peft_model(tiny_vlm.model, getattr(peft, kind)(target_modules=targets, **settings))
    for name, weight in model.named_parameters():
        if named in name:
            changed(weight.data)
    adapted = VLM("tiny", model.eval(), tiny_vlm.processor, tiny_vlm.key, adapter_key="theirs")
    unlearned = evaluated(adapted, prompt)
    speaker = LocalSpeaker(adapted, SETTINGS)
    assert not speaker.gradual
    assert last(speaker, Phase.BEFORE, prompt) == original != unlearned
    assert last(speaker, Phase.AFTER, prompt) == unlearned
    assert evaluated(detach(adapted), prompt) == original


def test_a_prompt_that_does_not_fit_is_one_line(tiny_vlm: VLM) -> None:
    speaker = LocalSpeaker(acting(tiny_vlm), SETTINGS)
    with pytest.raises(UserError, match="do not fit"):
        next(speaker.say(Phase.BEFORE, asked("word " * 900)))


def streamed(*parts: str, finish: str = "stop") -> Reply:
    """An answer in pieces, as OpenAI-compatible servers send them."""

    def event(delta: dict[str, str], ended: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": ended}
        part = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        return f"data: {json.dumps(part)}\n\n"

    body = "".join(event({"content": part}, None) for part in parts) + event({}, finish) + "data: [DONE]\n\n"
    return Reply(body, content_type="text/event-stream")


def test_two_models_on_one_server_answer_under_their_names() -> None:
    with serving(lambda body, _: streamed(" To", " ", body["model"])) as server:
        sides = {phase: named_server(f"{server.url}#{phase.value}") for phase in Phase}
        speaker = ServerSpeaker(sides, SETTINGS)
        lines = list(speaker.say(Phase.AFTER, asked("Say hello.")))
        assert [line.text for line in lines] == ["To", "To ", "To after", "To after"]
        assert (lines[-1].tokens, lines[-1].finish_reason) == (3, "stop")
        assert server.asked[0] | {"messages": None} == {
            "messages": None, "model": "after", "max_tokens": 12, "temperature": 0.0, "stream": True,
        }  # fmt: skip


def test_a_server_that_breaks_off_is_an_error() -> None:
    whole = streamed("To", " be")
    half = Reply(whole.body, content_type=whole.content_type, cut=60)
    with serving(lambda *_: half) as server:
        speaker = ServerSpeaker({Phase.BEFORE: named_server(f"{server.url}#m")}, SETTINGS)
        with pytest.raises(EndpointError):
            list(speaker.say(Phase.BEFORE, asked("Say hello.")))


def test_a_server_needs_a_url_and_a_name_where_it_has_several_models() -> None:
    with pytest.raises(UserError, match="not the URL"):
        named_server("localhost:8000")
    with pytest.raises(UserError, match="no connection"):
        named_server("http://127.0.0.1:9/v1")
    assert named_server("http://127.0.0.1:9/v1#mine").model == "mine"
