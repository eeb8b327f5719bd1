"""A whole run: evaluate, unlearn, evaluate again, score."""

from unsay.errors import UserError
from unsay.pipeline.evaluate import evaluate_phase
from unsay.pipeline.run import Run
from unsay.pipeline.score import finish
from unsay.pipeline.suites import build_suites
from unsay.pipeline.unlearn import prepare_examples, unlearn_stage
from unsay.records import Phase
from unsay.scoring import Scores


def unlearn_run(run: Run) -> Scores:
    """Every stage of a run directory, one after another; those whose inputs have not changed are reused.

    Raises:
        UserError: bad settings or data, NaN or collapse in training.
    """
    if run.config.evaluation.responder is not None:
        raise UserError("evaluation.responder: a server cannot answer for a model that is trained here; leave it out")
    suites = build_suites(run)
    examples, probe = prepare_examples(run, suites)
    evaluate_phase(run, suites, Phase.BEFORE, run.original, None)
    key = unlearn_stage(run, examples, probe)
    evaluate_phase(run, suites, Phase.AFTER, lambda: run.adapted(run.adapter_folder), key)
    scores, _ = finish(run, suites, list(Phase), {"method": run.config.method})
    return scores
