"""How much of its budget a run has used, and the learning rate that follows from it.

A run may be limited in steps, tokens and seconds at once. Its schedule runs over whichever limit is nearest, so that a
rate that falls to zero does so when the run ends, whatever ends it: progress is the largest of the three used shares.
"""

import math

from unsay.training.settings import TrainSettings


class Pace:
    """Progress on the budget, and the factor on the learning rate.

    Attributes:
        warm_end: progress when warm-up ended; None while it lasts. The rate falls from there on, so it is part of a
            checkpoint.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.warm_end: float | None = None

    def progress(self, step: int, tokens: int, seconds: float) -> float:
        """The largest share of a limit that is used, 0 to 1."""
        shares = [step / self.settings.steps]
        if self.settings.max_tokens is not None:
            shares.append(tokens / self.settings.max_tokens)
        if self.settings.max_seconds is not None:
            shares.append(seconds / self.settings.max_seconds)
        return min(1.0, max(shares))

    def factor(self, step: int, progress: float) -> float:
        """What the learning rate of the step after `step` steps is multiplied by, 0 to 1.

        Warm-up counts steps, for it is the optimiser that needs them; what follows is spread over the rest of the
        budget.
        """
        if step < self.settings.warmup_steps:
            return step / self.settings.warmup_steps
        if self.warm_end is None:
            self.warm_end = progress
        left = 1.0 - self.warm_end
        rest = (1.0 - progress) / left if left > 0 else 0.0
        return {"constant": 1.0, "linear": rest, "cosine": 0.5 + 0.5 * math.cos(math.pi * (1.0 - rest))}[
            self.settings.schedule
        ]

    def spent(self, step: int, tokens: int, seconds: float, next_tokens: int, look: float) -> bool:
        """Whether one more step would go over a limit.

        Tokens are counted beforehand, so that limit is exact and the same in every run. Seconds can only be foretold:
        the next step is taken to last as long as the steps so far did on average.

        Args:
            step: steps done.
            tokens: tokens used.
            seconds: time used.
            next_tokens: tokens of the next step's batch.
            look: seconds that the look at the probe takes with which a run ends.
        """
        limits = self.settings
        if step >= limits.steps or (limits.max_tokens is not None and tokens + next_tokens > limits.max_tokens):
            return True
        if limits.max_seconds is None or step == 0:
            return False
        return seconds + seconds / step + look > limits.max_seconds
