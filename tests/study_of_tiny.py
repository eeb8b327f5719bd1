"""A study of a tiny model in a process of its own, to be killed: `python study_of_tiny.py MODEL EXAMPLES OUT`."""

import sys
from pathlib import Path

import torch

from unsay.judging import rules
from unsay.study import launcher, run_study
from unsay.study.settings import StudySettings


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    del rules.RulesJudge.accuracy  # its agreement with people takes seconds to measure and is of no account here
    run_study(study(*sys.argv[1:3], seeds=[0]), Path(sys.argv[3]), launcher("sequential"))
