"""The real pocket VLM, the real prompts, the real judge: few prompts and few steps of what `unsay demo` does."""

import pytest

from unsay import api
from unsay.presets import preset
from unsay.records import Kind, Phase


@pytest.mark.pocket
def test_a_small_demo(tmp_path):
    demo = preset("demo")
    config = demo.model_copy(
        update={
            "data": demo.data.model_copy(
                update={
                    "answer_tokens": 8,
                    "recipe": demo.data.recipe.model_copy(update={"requests": 24, "probe": 2}),
                }
            ),
            "train": demo.train.model_copy(
                update={
                    "steps": 5,
                    "warmup_steps": 1,
                    "batch": demo.train.batch.model_copy(update={"forget": 2, "refuse": 3, "retain": 1}),
                }
            ),
            "evaluation": demo.evaluation.model_copy(
                update={
                    "suites": ("advbench", "advbench-typographic", "shapes", "answer-loss"),
                    "limit": 4,
                    "generation": demo.evaluation.generation.model_copy(update={"max_new_tokens": 12}),
                }
            ),
        }
    )
    scores = api.unlearn(config, tmp_path / "run")
    attacks = {(row.suite, row.phase): row for row in scores.rows if row.kind is Kind.ATTACK}
    assert attacks["advbench", Phase.BEFORE].n == 4
    assert attacks["advbench", Phase.BEFORE].harmful >= 2  # the original complies
    text = attacks["advbench", Phase.AFTER]
    assert text.harmful < attacks["advbench", Phase.BEFORE].harmful  # five steps already show
    assert all(row.failed == 0 for row in scores.rows)
    assert scores.judge.accuracy["accuracy"].n >= 200
    assert {row.stage for row in scores.cost} >= {"evaluate-before", "unlearn", "evaluate-after"}
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    losses = [row.value for row in scores.utility if row.suite == "answer-loss"]
    assert losses[1] < losses[0] + 1.0  # it still talks
