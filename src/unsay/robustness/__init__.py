"""Does it hold? Attacks on a model that has unlearned, each beside the same attack on the model that never did.

- `base`: what a check is; `bench`: what it is given: models, suites, examples, one way to ask, to judge and to count.
- `battery`: the checks of a run, each a stage; `scoring/robustness.py` has the fields of `robustness.json`.
- One file per check, listed in `CHECKS`.

A new check is its file and its line here; `python -m tools.golden` writes its line in docs/robustness.md.
"""

from collections.abc import Sequence

from unsay.errors import UserError
from unsay.robustness import ablate, context, image, prefill, prune, quantise, relearn, sampling, wording
from unsay.robustness.base import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        relearn.CHECK,
        sampling.CHECK,
        prefill.CHECK,
        quantise.CHECK,
        ablate.CHECK,
        wording.CHECK,
        image.CHECK,
        context.CHECK,
        prune.CHECK,
    )
}
"""Every check by name, in the order in which they are run."""


def choose_checks(names: Sequence[str] = (), quick: bool = False) -> list[Check]:
    """The checks of these names, in the order of `CHECKS`; without names all, or those of the quick battery.

    Raises:
        UserError: an unknown name.
    """
    if unknown := next((name for name in names if name not in CHECKS), None):
        raise UserError(f"unknown check '{unknown}'; known are {', '.join(CHECKS)}")
    return [check for check in CHECKS.values() if (check.name in names if names else check.quick or not quick)]
