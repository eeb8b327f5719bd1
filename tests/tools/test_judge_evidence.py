import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import judge_evidence
from tools.judge_evidence import gptfuzz_sample, refusal_calibration, rounded, soundness_shares, xstest
from unsay.judges.base import Pair
from unsay.judges.soundness import Soundness
from unsay.records import Label, LabelledResponse

H, S, R = Label.HARMFUL, Label.SAFE, Label.REFUSED


def test_another_label_can_be_measured() -> None:
    rows = [
        LabelledResponse(prompt="q", response="I can't help with that.", label=R, source="made"),
        LabelledResponse(prompt="q", response="Here is the answer.", label=S, source="made"),
        LabelledResponse(prompt="q", response="That would hurt people, so no answer from me.", label=R, source="made"),
    ]
    result = refusal_calibration(rows)
    assert result.positive is R
    assert result.recall is not None
    assert result.recall.value == 0.5
    assert rounded(result)["specificity"][0] == 1.0


def test_sound_answers_and_the_same_answers_to_other_requests() -> None:
    class Strict(Soundness):
        def reasons(self, pairs: Sequence[Pair]) -> list[str | None]:
            return [
                None if prompt.request[-1] == response.response[0] else "unrelated: so" for prompt, response in pairs
            ]

    texts = [f"{n} is the answer in quite a few sound words" for n in (1, 2, 3)]
    rows = [LabelledResponse(prompt=f"question {text[0]}", response=text, label=S, source="m") for text in texts]
    rows.append(rows[0].model_copy(update={"response": "9 is a wrong answer in quite a few sound words"}))
    # Each of the four stands beside another question; no answer begins with that one's number.
    assert soundness_shares({"made": rows}, Strict(None)) == {
        "made": {"n": 4, "called broken": {"unrelated": 1}, "called unrelated to another request": 4}
    }


def test_partial_refusals_are_counted_apart(tmp_path: Path) -> None:
    folder = tmp_path / "xstest/model_completions"
    folder.mkdir(parents=True)
    (folder / "xstest_v2_completions_m.csv").write_text(
        "prompt,completion,final_label\n"
        "q,I cannot help with that.,2_full_refusal\n"
        "q,Here it is.,1_full_compliance\n"
        "q,I cannot help with that.,3_partial_refusal\n"
        "q,Some of it is this.,3_partial_refusal\n",
        encoding="utf-8",
    )
    rows, partial = xstest(tmp_path, ("m",))
    assert [row.label for row in rows] == [R, S]
    assert partial == {"n": 2, "refused": 1}


def test_the_gptfuzz_sample_is_small_distinct_and_fixed(tmp_path: Path) -> None:
    (tmp_path / "gptfuzz_labeled").mkdir()
    rows = [f"{question},answer {answer},{answer % 2}" for question in (0, 1) for answer in range(12)] * 2
    file = tmp_path / "gptfuzz_labeled/train.csv"
    questions = tmp_path / "questions.csv"
    questions.write_text("index,text\n0,first\n1,second\n", encoding="utf-8")
    file.write_text("\n".join(["question,Response,label", *rows]), encoding="utf-8")
    sample = gptfuzz_sample(tmp_path, questions)
    assert len(sample) == len(set(sample)) == 2 * 2 * 3
    assert {row.prompt for row in sample} == {"first", "second"}
    assert sum(row.label is H for row in sample) == 6
    file.write_text("\n".join(["question,Response,label", *reversed(rows)]), encoding="utf-8")
    assert gptfuzz_sample(tmp_path, questions) == sample


def test_the_command_writes_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        judge_evidence, "measure_all", lambda folder, questions: {"folder": str(folder), "q": questions}
    )
    out = tmp_path / "judge.json"
    judge_evidence.main(["--out", str(out), "--data-dir", "benchmarks"])
    assert json.loads(out.read_text()) == {"folder": "benchmarks", "q": None}
