"""Does it hold? Attacks on a model that has unlearned, each beside the same attack on the model that never did.

- `base`: what a check is; `bench`: what it is given: models, suites, examples, one way to ask, to judge and to count.
- `battery`: the checks of a run, each a stage; `scoring/robustness.py` has the fields of `robustness.json`.
- One file per check, listed in `CHECKS`.

A new check is its file and its line here; `python -m tools.golden` writes its line in docs/robustness.md.
"""

from unsay.robustness import ablate, context, image, prefill, prune, quantise, relearn, samples, wording
from unsay.robustness.base import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        relearn.CHECK,
        samples.CHECK,
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
