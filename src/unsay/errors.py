"""`UserError`, the one exception whose message a person reads."""


class UserError(Exception):
    """Something outside the program is wrong: an input, the disk, the network.

    Its message is one line that says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with status 2.
    """

    @property
    def line(self) -> str:
        """The message on one line, whatever it quotes."""
        return " ".join(str(self).split())
