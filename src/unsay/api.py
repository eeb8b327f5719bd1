"""The public functions. The command line calls these, and so can you."""

from collections.abc import Sequence
from pathlib import Path

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.generation import GenerationSettings, check_images
from unsay.generation.responses import generate
from unsay.generation.settings import explain_out_of_memory
from unsay.models import VLM, load
from unsay.presets import preset
from unsay.processes import join, refuse_several
from unsay.records import Kind, SourceRow
from unsay.reports import write_report
from unsay.robustness import choose_checks
from unsay.robustness.battery import make_examples, run_battery
from unsay.run.compare import compare as compare_runs
from unsay.run.directory import TRAINED, Adapter, Run
from unsay.run.experiment import evaluate_run, unlearn_run
from unsay.run.own_answers import request_prompts
from unsay.run.suites import read_suite_file
from unsay.scoring import Scores
from unsay.scoring.robustness import Robustness
from unsay.stages import Progress
from unsay.studies import StudyResult, StudySettings, launcher, read_runs, read_study, run_study
from unsay.studies.study_plan import quickened

__all__ = [
    "VLM",
    "RunConfig",
    "answer",
    "compare",
    "demo",
    "evaluate",
    "load",
    "read_config",
    "report",
    "robustness",
    "study",
    "unlearn",
]


def demo(out: Path, *, seed: int = 0, progress: Progress | None = None) -> Scores:
    """Run everything on the pocket VLM: evaluate, unlearn on text alone, evaluate again, report.

    Args:
        out: run directory; stages whose inputs have not changed are reused.
        seed: of data, training and statistics.
        progress: shows what is being done.

    Raises:
        UserError: an asset cannot be fetched, or the folder cannot be written.
    """
    settings = preset("demo").model_dump(exclude={"seed": True, "train": {"seed"}})  # training follows the run's seed
    return unlearn(RunConfig.model_validate({**settings, "seed": seed}), out, progress=progress)


def unlearn(
    config: RunConfig, out: Path, *, suite_file: Path | None = None, progress: Progress | None = None
) -> Scores:
    """Evaluate, unlearn, evaluate again, and write `scores.json`, `report.html` and `adapter/` in the run directory.

    Started by `accelerate launch` or `torchrun`, all processes train together.

    Args:
        config: every setting.
        out: run directory; a killed run continues where it stopped.
        suite_file: your own questions (see `evaluate`), asked before and after beside the suites of `config`; no
            training prompt may be one of them.
        progress: shows what is being done.

    Raises:
        UserError: bad settings or data, a run directory of an earlier version, NaN or collapse in training, too little
            memory, or a lost process.
    """
    user_suites = None if suite_file is None else read_suite_file(suite_file)
    return unlearn_run(Run.open(out, config, progress, join()), user_suites)


def evaluate(
    config: RunConfig,
    out: Path,
    *,
    adapter: Path | None = None,
    suite_file: Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Evaluate a model, with and without an adapter if one is given, on named suites or on your own questions.

    Args:
        config: model, suites, generation and judge.
        out: run directory.
        adapter: a trained adapter in PEFT format; the model without it is then `before`, with it `after`.
        suite_file: your own questions, all of them asked, beside the suites that `config` names, and alone if it names
            none: JSONL rows `{"id", "prompt", "image": path or null, "kind": "attack" | "benign"}`.
        progress: shows what is being done.

    Raises:
        UserError: a missing file, a malformed row, an unreadable image, an unknown suite, or a directory of a run that
            has unlearned.
    """
    refuse_several("evaluate")
    if (out / TRAINED).exists():
        raise UserError(f"{out}: holds a run that has unlearned, whose scores would be lost; choose another --out")
    user_suites = None if suite_file is None else read_suite_file(suite_file)
    if adapter is not None and config.evaluation.responder is not None:
        raise UserError(
            "evaluation.responder: an adapter cannot be put on a server's model; evaluate the two apart, and pair them "
            "with `unsay compare`"
        )
    trained = None if adapter is None else Adapter.open(adapter)
    return evaluate_run(Run.open(out, config, progress), user_suites, trained)


def robustness(
    run_dir: Path,
    *,
    checks: Sequence[str] = (),
    quick: bool = False,
    adapter: Path | None = None,
    config: RunConfig | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Attack a model that has unlearned, and its original in the same ways; writes `robustness.json` and the report.

    Args:
        run_dir: a run that has unlearned; a killed call continues where it stopped. With `config`, a directory of its
            own for an adapter that was trained elsewhere.
        checks: names out of `unsay.robustness.CHECKS`; all by default, or those of the quick battery.
        quick: the short form of the checks.
        adapter: the adapter in PEFT format; needed with `config`, and for a run that has evaluated one from elsewhere.
        config: model, data, generation and judge for an adapter that was trained elsewhere; its forget examples are
            then made as those of a run.
        progress: shows what is being done.

    Raises:
        UserError: no run there, or one of another version; no adapter, one of earlier settings, or another one than the
            run's own; no forget examples; an unknown check. A check that fails is reported instead.
    """
    refuse_several("robustness")
    chosen = choose_checks(checks, quick)
    if config is None:
        run = Run.reopen(run_dir, progress)
        trained = Adapter.of_run(run_dir) if adapter is None else Adapter.open(adapter)
        if (run_dir / TRAINED).exists() and trained.key != Adapter.open(run.adapter_folder).key:
            raise UserError(
                f"{run_dir}: has an adapter of its own, whose results these would replace: attack another one with "
                f"--config {run_dir / 'config.yaml'} --adapter {adapter} and --out, a directory of its own"
            )
    else:
        if adapter is None:
            raise UserError("an adapter is needed beside a model (--adapter): the checks attack what it has unlearned")
        if (run_dir / TRAINED).exists():
            raise UserError(f"{run_dir}: holds a run that has unlearned; choose another --out, or give no model")
        trained, run = Adapter.open(adapter), Run.open(run_dir, config, progress)
        make_examples(run)
    result = run_battery(run, trained, chosen, quick=quick)
    if (run.folder / "scores.json").exists():
        write_report(run.folder)
    return result


def answer(vlm: VLM, prompt: str, image: Path | None = None, *, max_new_tokens: int = 48) -> str:
    """One greedy answer, exactly as evaluation would give it.

    Args:
        vlm: the original or the unlearned model, from `load`.
        prompt: in words; may be empty where the picture says it all.
        image: the file of a picture that comes before the words.
        max_new_tokens: longest answer, in tokens.

    Raises:
        UserError: the picture is missing or unreadable, or memory runs out.
    """
    row = SourceRow(text=prompt, source="answer", image=None if image is None else str(image))
    asked = request_prompts([row], "answer", Kind.BENIGN)
    check_images(asked)
    settings = GenerationSettings(max_new_tokens=max_new_tokens)
    with explain_out_of_memory(settings):
        ((response,),) = generate(vlm, asked, settings)
    return response.response


def compare(before: Path | str, after: Path | str, out: Path, *, common: bool = False) -> Scores:
    """Pair two finished evaluations, of two servers or two adapters for example; writes a report with its scores.

    Args:
        before: a run directory, or `DIR:before` or `DIR:after` for a phase of it; its last phase if none is named.
        after: the same.
        out: the directory of the comparison.
        common: compare only the suites that are the same in both.

    Raises:
        UserError: no finished run there, or one that is being written; the same evaluation twice; different suites,
            items, generation settings or judges; or `out` holds a run.
    """
    refuse_several("compare")
    return compare_runs(before, after, out, common=common)


def study(
    settings: StudySettings | str,
    out: Path,
    *,
    quick: bool = False,
    launch: str = "sequential",
    progress: Progress | None = None,
    command: str = "",
    known: Sequence[Path] = (),
) -> StudyResult:
    """Train and evaluate several arms at equal budgets, and compare them; writes `study.json` and `study.html`.

    Args:
        settings: the study, or the name of a packaged one, or the path of a study file.
        out: the study's directory; runs that are finished in it are not done again.
        quick: the study's smaller variant.
        launch: `sequential`, or `ray`.
        progress: shows what is being done.
        command: how to do this again, for the report.
        known: `runs.jsonl` of the same study elsewhere; runs that stand there are not done again.

    Raises:
        UserError: bad settings, found before anything is run; a run that fails is reported instead. Or a known file
            that is malformed, or made with other versions than those here.
    """
    refuse_several("study")
    chosen = settings if isinstance(settings, StudySettings) else read_study(str(settings))
    if quick:
        chosen = quickened(chosen)
    found = [run for path in known for run in read_runs(path)]
    return run_study(chosen, out, launcher(launch, progress), command=command, known=found, progress=progress)


def report(run_dir: Path) -> Path:
    """Write `report.html` again from the files of a run directory; returns its path.

    Raises:
        UserError: the directory has no scores, or they are malformed.
    """
    return write_report(run_dir)
