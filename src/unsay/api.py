"""The public functions. The command line calls these, and so can you."""

from collections.abc import Sequence
from pathlib import Path

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.models import VLM, load
from unsay.models.lora import adapter_key
from unsay.presets import preset
from unsay.processes import join, refuse_several
from unsay.records import Phase
from unsay.reports import write_report
from unsay.run.cautions import contamination_cautions, vision_cautions
from unsay.run.compare import compare as compare_runs
from unsay.run.directory import LEARNED, Run
from unsay.run.evaluate import answerable_suites, evaluate_phase
from unsay.run.experiment import unlearn_run
from unsay.run.score import score_run
from unsay.run.suites import build_suites, read_suite_file
from unsay.scoring import Scores
from unsay.stages import Progress
from unsay.studies import StudyResult, StudySettings, launcher, read_runs, read_study, run_study
from unsay.studies.adjust import quickened

__all__ = ["VLM", "RunConfig", "compare", "demo", "evaluate", "load", "read_config", "report", "study", "unlearn"]


def demo(out: Path, *, seed: int = 0, progress: Progress | None = None) -> Scores:
    """The whole story on the pocket VLM: evaluate, unlearn on text alone, evaluate again, report.

    Args:
        out: run directory; stages whose inputs have not changed are reused.
        seed: of data, training and statistics.
        progress: told what is going on.

    Raises:
        UserError: an asset cannot be fetched, or the folder cannot be written.
    """
    settings = preset("demo").model_dump(
        exclude={"seed": True, "train": {"seed"}}
    )  # the training follows the run's seed
    return unlearn(RunConfig.model_validate({**settings, "seed": seed}), out, progress=progress)


def unlearn(
    config: RunConfig, out: Path, *, suite_file: Path | None = None, progress: Progress | None = None
) -> Scores:
    """Evaluate, unlearn, evaluate again, and write `scores.json`, `report.html` and `adapter/` in the run directory.

    In processes that `accelerate launch` or `torchrun` has started, the training is done by all of them.

    Args:
        config: every setting.
        out: run directory; a killed run continues where it stopped.
        suite_file: your own questions (see `evaluate`), all of them asked before and after beside the suites that
            `config` names; no training prompt may be one of them.
        progress: told what is going on.

    Raises:
        UserError: bad settings or data, NaN or collapse in training, too little memory, a process that is lost.
    """
    own = None if suite_file is None else read_suite_file(suite_file)
    return unlearn_run(Run.open(out, config, progress, join()), own)


def evaluate(
    config: RunConfig,
    out: Path,
    *,
    adapter: Path | None = None,
    suite_file: Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Evaluate a model, and with an adapter also that, on named suites or on your own questions.

    Args:
        config: model, suites, generation and judge.
        out: run directory.
        adapter: a trained adapter in PEFT format; the model without it is then `before`, with it `after`.
        suite_file: your own questions, all of them asked, beside the suites that `config` names, and alone where it
            names none: JSONL rows `{"id", "prompt", "image": path or null, "kind": "attack" | "benign"}`.
        progress: told what is going on.

    Raises:
        UserError: a missing file, a malformed row, an unreadable image, an unknown suite, or a directory of a run that
            has unlearned.
    """
    refuse_several("evaluate")
    if (out / LEARNED).exists():
        raise UserError(f"{out}: holds a run that has unlearned, whose scores would be lost; choose another --out")
    own = None if suite_file is None else read_suite_file(suite_file)
    if adapter is not None and config.evaluation.responder is not None:
        raise UserError(
            "evaluation.responder: an adapter cannot be put on a server's model; evaluate the two apart, and pair them "
            "with `unsay compare`"
        )
    key = None if adapter is None else _adapter_key(adapter)
    run = Run.open(out, config, progress)
    suites = build_suites(run) if own is None or config.evaluation.suites else {}
    suites = answerable_suites(run, suites if own is None else suites | own(run))
    evaluate_phase(run, suites, Phase.BEFORE, run.original, None)
    if adapter is not None:
        folder = adapter
        evaluate_phase(run, suites, Phase.AFTER, lambda: run.adapted(folder), key)
    about = {} if adapter is None else {"adapter": str(adapter)}
    cautions = (
        [] if adapter is None else [*contamination_cautions(adapter, suites), *vision_cautions(adapter, config.model)]
    )
    return score_run(run, suites, [Phase.BEFORE] if adapter is None else list(Phase), about, cautions)


def compare(before: Path | str, after: Path | str, out: Path, *, common: bool = False) -> Scores:
    """Pair two finished evaluations, such as of two servers or two adapters; writes `scores.json` and `report.html`.

    Args:
        before: a run directory, or `DIR:before` or `DIR:after` for a phase of it; its last phase if none is named.
        after: the same.
        out: the directory of the comparison.
        common: compare the suites that both were asked alike, and leave the others out.

    Raises:
        UserError: no finished run there, or one that is being written; the same evaluation twice; other suites, items,
            generation settings or judges; or `out` holds a run.
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
        progress: told what is going on.
        command: how to do this again, for the report.
        known: `runs.jsonl` of the same study elsewhere; runs that stand there are not done again.

    Raises:
        UserError: bad settings, found before anything is run; a run that fails is reported instead. Or a known file
            that is malformed, or made with other versions than those here.
    """
    refuse_several("study")
    chosen = read_study(settings) if isinstance(settings, str) else settings
    if quick:
        chosen = quickened(chosen)
    found = [run for path in known for run in read_runs(path)]
    return run_study(chosen, out, launcher(launch, progress), command=command, known=found, progress=progress)


def report(run_dir: Path) -> Path:
    """Write `report.html` of a run directory anew from its files; returns its path.

    Raises:
        UserError: there are no scores there, or they are malformed.
    """
    return write_report(run_dir)


def _adapter_key(folder: Path) -> str:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no PEFT adapter there ({name} is missing)")
    return adapter_key(folder)
