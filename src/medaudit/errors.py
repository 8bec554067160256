"""The two errors a user can cause; the command line turns each into one line and an exit code."""

MOST = 1_500
"""Characters of a message. Names, values and ids stand in it as the data have them, and may be of any length there."""


class _ToldError(Exception):
    """An error whose message is told in full where it is short, else its beginning and its end."""

    def __str__(self) -> str:
        said = super().__str__()
        if len(said) <= MOST:
            return said
        return f"{said[: 2 * MOST // 3]} [... {len(said):,} characters ...] {said[-MOST // 6 :]}"


class DataError(_ToldError):
    """Something in the data is not as it must be: the message names the file or case, and how to mend it.

    The command line prints the message on one line and exits with code 1.
    """


class UsageError(_ToldError):
    """What was asked for cannot be done as it was asked (an unknown column, a folder of another run).

    The command line prints the message on one line and exits with code 2.
    """


def one_line(message: object) -> str:
    """Return a message on one line, of which nothing moves a cursor, colours or turns the reading around."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(str(message).split()))
