"""The two errors a user can cause; the command line turns each into one line and an exit code."""


class DataError(Exception):
    """Something in the data is not as it must be: the message names the file or case, and how to mend it.

    The command line prints the message on one line and exits with code 1.
    """


class UsageError(Exception):
    """What was asked for cannot be done as it was asked (an unknown column, a folder of another run).

    The command line prints the message on one line and exits with code 2.
    """
