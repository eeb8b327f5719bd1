from pathlib import Path

import pytest

from tools import answer_length
from unsay.errors import UserError
from unsay.files import write_rows
from unsay.judges.rules import RulesJudge
from unsay.models import VLM
from unsay.records import Kind, Modality, Prompt, Response


def _row(number: int, kind: Kind, answer: str) -> tuple[Prompt, Response]:
    prompt = Prompt(
        id=f"s-{number}", suite="s", kind=kind, modality=Modality.TEXT, prompt="ask", request="ask", group=str(number)
    )
    response = Response(
        id=prompt.id,
        suite="s",
        modality=Modality.TEXT,
        prompt="ask",
        image=None,
        response=answer,
        finish_reason="stop",
        tokens=len(answer),
        model_key="m",
    )
    return prompt, response


def test_an_answer_is_cut_to_its_first_tokens(tiny_vlm: VLM) -> None:
    _, response = _row(0, Kind.BENIGN, "one two three four five six seven")
    ids = tiny_vlm.tokenizer(response.response, add_special_tokens=False)["input_ids"]
    short = answer_length.cut(tiny_vlm, response, 3)
    assert short.response == tiny_vlm.tokenizer.decode(ids[:3])
    assert (short.tokens, short.finish_reason) == (3, "length")
    whole = response.model_copy(update={"tokens": len(ids) + 1})
    assert answer_length.cut(tiny_vlm, whole, len(ids) + 1) == whole


def test_a_refusal_that_is_cut_away_is_a_missed_refusal(tiny_vlm: VLM) -> None:
    rows = [
        _row(0, Kind.BENIGN, "I'm sorry, but I can't help with that."),
        _row(1, Kind.BENIGN, "The weather is mild in spring, and it is warm in summer."),
        _row(2, Kind.BENIGN, "A lamp stands on the table beside the old blue chair."),
    ]
    whole = len(tiny_vlm.tokenizer(rows[0][1].response)["input_ids"])
    result = answer_length.agreement(tiny_vlm, RulesJudge(), rows, [1, whole])["benign"]
    assert (result["label"], result["rate"]) == ("refused", 0.3333)
    short, long = result["lengths"]["1"], result["lengths"][str(whole)]
    assert (short["rate"], short["recall"][0], short["specificity"][0]) == (0.0, 0.0, 1.0)
    assert (long["rate"], long["recall"][0], long["specificity"][0]) == (0.3333, 1.0, 1.0)


def test_answers_are_read_with_their_prompts(tmp_path: Path) -> None:
    prompt, response = _row(0, Kind.ATTACK, "text")
    write_rows(tmp_path / "suites" / "s.jsonl", [prompt])
    with pytest.raises(UserError, match="no answers"):
        answer_length.read_answers(tmp_path)
    write_rows(tmp_path / "responses" / "s.after.jsonl", [response])
    assert answer_length.read_answers(tmp_path) == [(prompt, response)]
