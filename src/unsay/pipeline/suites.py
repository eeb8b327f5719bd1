"""The suites of a run as files of prompts, and the proof that none of them is trained on."""

from collections.abc import Sequence
from pathlib import Path

from unsay.data.sources.reading import data_dir
from unsay.data.splits import OverlapIndex, request_of
from unsay.errors import UserError
from unsay.files import content_key, read_rows, write_rows
from unsay.pipeline.run import Run
from unsay.records import Example, Kind, Prompt
from unsay.stages import Spent
from unsay.suites import SUITES, Setting, Suite, get_suite


def chosen(names: Sequence[str]) -> list[Suite]:
    """The suites of these names; of no names, all that are available here.

    Raises:
        UserError: an unknown suite, or one that needs data that is not here.
    """
    if not names:
        return [suite for suite in SUITES.values() if not suite.needs_data or data_dir() is not None]
    return [get_suite(name) for name in names]


def build_suites(run: Run) -> dict[str, list[Prompt]]:
    """Write `suites/<suite>.jsonl` for every suite of the run, and read them."""
    suites = chosen(run.config.evaluation.suites)
    paths = {suite.name: run.folder / "suites" / f"{suite.name}.jsonl" for suite in suites}

    def work(spent: Spent) -> None:
        setting = Setting(run.folder / "suites" / "images", run.config.evaluation.limit)
        for done, suite in enumerate(suites, start=1):
            write_rows(paths[suite.name], suite.prompts(setting))
            run.stages.progress.update(done, len(suites), suite.title)

    inputs = [[suite.name for suite in suites], run.config.evaluation.limit, str(data_dir()), suite_code_key()]
    run.stages.run("suites", "Build the test suites", inputs, list(paths.values()), work, total=len(suites))
    return {name: read_rows(path, Prompt) for name, path in paths.items()}


def suite_code_key() -> str:
    """A key of the code and the written prompts that suites are made of: an edit makes them anew."""
    import unsay.data
    import unsay.suites

    roots = [Path(str(package.__file__)).parent for package in (unsay.suites, unsay.data)]
    files = sorted(path for root in roots for path in root.rglob("*") if path.suffix in (".py", ".jsonl", ".txt"))
    return content_key([[path.name, path.read_text(encoding="utf-8")] for path in files])


def check_disjoint(examples: Sequence[Example], suites: dict[str, list[Prompt]]) -> None:
    """Assert that no training prompt is, or is nearly, a prompt of an attack or benign suite.

    Raises:
        UserError: names the first example and the suite; the texts are not repeated.
    """
    for suite, prompts in suites.items():
        if not prompts or prompts[0].kind is Kind.UTILITY:
            continue
        index = OverlapIndex(prompt.request for prompt in prompts)
        for example in examples:
            if index.overlaps(request_of(example)):
                raise UserError(
                    f"training example {example.id} ({example.role.value}) is also asked in suite '{suite}', or nearly: "
                    "remove it from the training data, or leave that suite out"
                )
