"""The one exception that a person is meant to read."""


class UserError(Exception):
    """Something outside the program is wrong: an input, the disk, the network.

    The message is one line that says what is wrong, where, and what to do about it. The command line
    prints it without a traceback and exits with code 2.
    """
