"""The error types that a user is meant to read: `main` prints them as one line, `--debug` shows the traceback."""


class InputError(ValueError):
    """A mistake in what the user gave: the message names the thing, what was received and what is allowed.

    The program ends with exit code 2.
    """


class RunError(RuntimeError):
    """A run that cannot go on (loss not finite, disk full): the message says where it stopped and what was kept.

    The program ends with exit code 1.
    """


def first_cause(error: BaseException) -> BaseException:
    """The error that all those it led to only speak around."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def first_line(error: BaseException) -> str:
    """The first line of what an error of somebody else's says, at most 300 characters."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error  # which would be in quotes otherwise
    line = (str(text).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 300 else f"{line[:297]}..."
