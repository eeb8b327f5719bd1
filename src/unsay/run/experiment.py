"""A run from top to bottom: suites, examples, answers before, training, answers after, scores, report.

Each step is a stage: it hands its result to the next one as an object, writes it to the run directory for people and
for resuming, and is reused if its inputs have not changed.
"""

from unsay.errors import UserError
from unsay.processes import process_lost
from unsay.records import Phase
from unsay.reports import write_report
from unsay.run.cautions import base_cautions, training_cautions, vision_cautions
from unsay.run.directory import Adapter, Run
from unsay.run.evaluate import TITLES, evaluate_phase
from unsay.run.examples import prepare_examples, retain_rows
from unsay.run.live_report import TRAINING, Ahead
from unsay.run.overlap import contamination_cautions
from unsay.run.own_answers import own_answers, retain_answers, retains_own_answers
from unsay.run.score import score_run
from unsay.run.suites import Suites, build_suites
from unsay.run.train import forget_other_training, join_training, plan_run, train_adapter
from unsay.run.training_rows import training_rows
from unsay.scoring import Scores

UNLEARNING: Ahead = (
    ("Build the test suites", None),
    ("Put the training examples together", None),
    (TITLES[Phase.BEFORE], None),
    (TRAINING, None),
    (TITLES[Phase.AFTER], TITLES[Phase.BEFORE]),
)
"""The stages that every run has, for its live report; the second evaluation takes about as long as the first."""


def unlearn_run(run: Run, user_suites: Suites | None = None) -> Scores:
    """Evaluate the original model, unlearn, evaluate the unlearned model, and report.

    The user's own suites are asked before and after, and kept out of the training data, like the others. Of several
    processes the first does everything, and the others take part in the training.
    """
    if run.config.evaluation.responder is not None:
        raise UserError("evaluation.responder: a server cannot answer for a model that is trained here; leave it out")
    try:
        if not run.processes.first:
            join_training(run)
        scores = run.processes.broadcast(_followed_unlearn(run, user_suites) if run.processes.first else None)
    except RuntimeError as error:
        if not process_lost(error):
            raise
        raise UserError("another process of this run has ended; its own message says why") from error
    assert scores is not None  # the first process has broadcast them
    return scores


def _followed_unlearn(run: Run, user_suites: Suites | None) -> Scores:
    with run.live.following(UNLEARNING):
        return _unlearn(run, user_suites)


def _unlearn(run: Run, user_suites: Suites | None) -> Scores:
    suites = build_suites(run, user_suites)
    examples = prepare_examples(run, suites)
    plan = plan_run(run, examples)
    forget_other_training(run, plan)
    before = evaluate_phase(run, suites, Phase.BEFORE)
    adapter = train_adapter(run, plan)
    after = evaluate_phase(run, suites, Phase.AFTER, adapter)
    cautions = training_cautions(run.config, examples, plan, adapter.steps)
    scores = score_run(run, suites, [before, after], {"method": run.config.method}, cautions)
    _report(run)
    return scores


def evaluate_run(run: Run, user_suites: Suites | None = None, adapter: Adapter | None = None) -> Scores:
    """Evaluate the original model, and with an adapter (of this or another run) also the unlearned one, and report.

    The user's own suites are asked alone if the settings name no others.
    """
    titles = [TITLES[Phase.BEFORE], *([] if adapter is None else [TITLES[Phase.AFTER]])]
    with run.live.following([(title, TITLES[Phase.BEFORE]) for title in titles]):
        return _evaluate(run, user_suites, adapter)


def _evaluate(run: Run, user_suites: Suites | None, adapter: Adapter | None) -> Scores:
    suites = build_suites(run, user_suites, standard=user_suites is None)
    results = [evaluate_phase(run, suites, Phase.BEFORE)]
    about, cautions = {}, []
    if adapter is not None:
        results.append(evaluate_phase(run, suites, Phase.AFTER, adapter))
        about = {"adapter": str(adapter.folder)}
        cautions = [
            *base_cautions(adapter.folder, run.config.model),
            *contamination_cautions(adapter.folder, suites),
            *vision_cautions(adapter.folder, run.config.model),
        ]
    scores = score_run(run, suites, results, about, cautions)
    _report(run)
    return scores


def evaluate_original(run: Run) -> Scores:
    """Evaluate the original model, and collect its own answers, for the arms of a study to reuse."""
    with run.live.following([(TITLES[Phase.BEFORE], None)]):
        suites = build_suites(run)
        if run.config.data.examples is None:
            rows = training_rows(run, suites)
            own_answers(run, rows.forget)
            if retains_own_answers(run):
                retain_answers(run, retain_rows(run, suites, rows))
        before = evaluate_phase(run, suites, Phase.BEFORE)
        scores = score_run(run, suites, [before], {})
        _report(run)
        return scores


def _report(run: Run) -> None:
    """The report takes the place of the live one."""
    run.live.close()
    write_report(run.folder)
