"""A study of a tiny model, for processes that are killed too."""

from helpers.unmeasured import unmeasured
from unsay.judges import rules
from unsay.studies import launcher, run_study
from unsay.studies.settings import StudySettings


def study(model, examples, **more):
    """Two methods on a tiny model, at equal steps and equal tokens."""
    return StudySettings.model_validate(
        {
            "base": {
                "data": {"examples": str(examples), "recipe": {"probe": 1}},
                "train": {"steps": 3, "batch": {"forget": 2, "refuse": 2, "retain": 2}, "checkpoint_every": 1},
                "evaluation": {
                    "judge": "rules",
                    "suites": ["advbench", "contrast", "answer-loss"],
                    "limit": 4,
                    "generation": {"max_new_tokens": 4},
                },
            },
            "models": [str(model)],
            "seeds": [0, 1],
            "arms": {
                "unlearn": {"title": "Unlearning"},
                "sft": {"title": "Refusal SFT", "settings": {"method": "refusal-sft"}},
            },
            "budget": {"equal": ["steps", "tokens"]},
            **more,
        }
    )


def run(model, examples, out):
    """The whole study in a process of its own, with one seed."""
    rules.RulesJudge.accuracy = unmeasured
    run_study(study(model, examples, seeds=[0]), out, launcher("sequential"))
