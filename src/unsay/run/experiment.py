"""A whole run: evaluate, unlearn, evaluate again, score."""

from unsay.errors import UserError
from unsay.processes import lost
from unsay.records import Phase
from unsay.run.cautions import training_cautions
from unsay.run.directory import Run
from unsay.run.evaluate import evaluate_phase
from unsay.run.score import score_run
from unsay.run.suites import UserSuites, build_suites
from unsay.run.train import join_training, prepare_training, train_adapter
from unsay.scoring import Scores


def unlearn_run(run: Run, own: UserSuites | None = None) -> Scores:
    """Every stage of a run directory, one after another; those whose inputs have not changed are reused.

    Of several processes the first does everything, and the others take part in the training.

    Args:
        run: the run.
        own: the user's own questions: kept out of the training data, and asked before and after, as its suites are.

    Raises:
        UserError: bad settings or data, NaN or collapse in training, another process that is gone.
    """
    if run.config.evaluation.responder is not None:
        raise UserError("evaluation.responder: a server cannot answer for a model that is trained here; leave it out")
    try:
        if not run.processes.first:
            join_training(run)
        scores = run.processes.broadcast(_first(run, own) if run.processes.first else None)
    except RuntimeError as error:
        if not lost(error):
            raise
        raise UserError("another process of this run has ended; its own message says why") from error
    assert scores is not None  # the first process has given them
    return scores


def _first(run: Run, own: UserSuites | None) -> Scores:
    suites = build_suites(run)
    if own is not None:
        suites |= own(run)
    plan = prepare_training(run, suites)
    evaluate_phase(run, suites, Phase.BEFORE, run.original, None)
    key = train_adapter(run, plan)
    evaluate_phase(run, suites, Phase.AFTER, lambda: run.adapted(run.adapter_folder), key)
    return score_run(run, suites, list(Phase), {"method": run.config.method}, training_cautions(run, plan))
