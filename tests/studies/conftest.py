"""The study of a tiny model that several test files read; copy its directory to change something in it."""

import pytest
import torch

from helpers import study_of_tiny, tiny
from helpers.unmeasured import unmeasured
from unsay.files import write_rows
from unsay.studies import launcher, run_study


@pytest.fixture(scope="session")
def finished(tiny_folder, tmp_path_factory):
    """The directory of a study of two seeds, run on one thread, and its result; its examples lie beside it."""
    folder, threads = tmp_path_factory.mktemp("study"), torch.get_num_threads()
    write_rows(folder / "examples.jsonl", tiny.examples(12))
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unsay.judges.rules.RulesJudge.accuracy", unmeasured)
        patch.setattr("unsay.run.environment.commit", lambda _folder: "0" * 40)
        study = study_of_tiny.study(tiny_folder, folder / "examples.jsonl")
        result = run_study(study, folder / "out", launcher("sequential"), command="unsay study")
    torch.set_num_threads(threads)
    return folder / "out", result
