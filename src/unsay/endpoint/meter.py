"""What a server was asked, and what that costs."""

import threading

from unsay.endpoint.settings import EndpointSettings


class Meter:
    """Counts requests and tokens of many threads."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.requests = 0
        self.failed = 0
        self.tokens_in = 0
        self.tokens_out = 0

    def answered(self, tokens_in: int, tokens_out: int) -> None:
        """Note one request that was answered."""
        with self._lock:
            self.requests += 1
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out

    def gave_up(self) -> None:
        """Note one request that was not."""
        with self._lock:
            self.requests += 1
            self.failed += 1

    @property
    def cost(self) -> float:
        """Price of all tokens so far, in the currency of the settings."""
        return (self.tokens_in * self._settings.price_in + self.tokens_out * self._settings.price_out) / 1e6

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.tokens_in + self.tokens_out

    @property
    def text(self) -> str:
        """One line for people."""
        said = f"{self.requests:,} requests, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if self.failed:
            said += f", {self.failed:,} failed"
        return said + (f", cost {self.cost:.2f}" if self.cost else "")
