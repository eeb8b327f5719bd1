"""Does it hold? Attacks on a model that has unlearned, each beside the same attack on the model that never did.

- `base`: what a check is; `bench`: what it is given: models, suites, examples, one way to ask, to judge and to count.
- `battery`: the checks of a run, each a stage; `scoring/robustness.py` has the fields of `robustness.json`.
- One file per check, listed in `CHECKS`.

A new check is its file and its line here; `python -m tools.golden` writes its line in docs/robustness.md.
"""

from unsay.robustness import context, image, prefill, samples, wording
from unsay.robustness.base import Check

CHECKS: dict[str, Check] = {
    check.name: check for check in (samples.CHECK, prefill.CHECK, wording.CHECK, image.CHECK, context.CHECK)
}
"""Every check by name, in the order in which they are run."""
