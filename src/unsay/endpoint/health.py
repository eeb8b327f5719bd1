"""What the answers so far say of a server: whether there is any point in sending it more."""

import threading

from unsay.endpoint.faults import HELP, PASSING, EndpointError, Fault
from unsay.endpoint.settings import EndpointSettings


class Health:
    """Counts failures of many threads in a row, and gives up on a server that answers nobody.

    Attributes:
        known: whether the server has ever answered.
        down: why nothing more is sent; None while something is.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.known = False
        self.down: EndpointError | None = None
        self._in_a_row = 0
        self._met = False
        self._away: EndpointError | None = None

    def begin(self) -> None:
        """Try the server anew: that it was down before says nothing of now."""
        with self._lock:
            self.down, self._in_a_row = None, 0
            self._met, self._away = False, None

    def answered(self) -> None:
        """Note a request that was answered."""
        with self._lock:
            self.known = self._met = True
            self._in_a_row = 0

    def failed(self, error: EndpointError) -> None:
        """Note a request that was not.

        What is one prompt's own fault does not count. Nor does a refusal by a server that has answered others; one that
        refuses everything from the start is not asked for ever.
        """
        with self._lock:
            if error.fault is Fault.AWAY:
                self._away = error
            else:
                self._met = True
            if error.fault is Fault.ACCESS:
                self._give_up(str(error), error.fault)
            elif error.fault is not Fault.CONTENT and (error.fault in PASSING or not self.known):
                self._in_a_row += 1
                if self._in_a_row >= self._settings.give_up_after:
                    self._give_up(f"{self._in_a_row} requests failed in a row, the last with: {error}", error.fault)

    def trouble(self) -> EndpointError | None:
        """Why the user must do something before more can be asked; None where all went well, or only some rows failed.

        Few requests are no run of failures yet; but where not one of them found a server, it was none of their fault.
        """
        with self._lock:
            if self.down is None and self._away is not None and not self._met:
                return EndpointError(f"{self._away}: {HELP[Fault.AWAY]}", Fault.AWAY)
            return self.down

    def _give_up(self, reason: str, fault: Fault) -> None:
        if self.down is None:
            self.down = EndpointError(f"{reason}: {HELP[fault].format(key=self._settings.key_variable)}", fault)
