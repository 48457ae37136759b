"""The failures a user can meet; each class carries the exit code that the command line returns for it.

The exit codes of signals are in ``cli/entry.py``, those of failed gates in ``cli/verb.py``.
"""


class LevitEdgeError(Exception):
    """Base of every failure that levit-edge reports in one line. Exit code 4 unless a subclass says otherwise."""

    exit_code = 4


class VerificationFailed(LevitEdgeError):  # noqa: N818  # what happened, not what went wrong in the code
    """A model file does not compute what its program does, so nothing was published. Exit code 1: a gate failed."""

    exit_code = 1


class InputError(LevitEdgeError):
    """Bad input or usage: the message says what is wrong, where, and what would be valid. Exit code 2."""

    exit_code = 2


class MissingComponentError(LevitEdgeError):
    """A component needed for the request is absent; ``command`` installs it. Exit code 3."""

    exit_code = 3

    def __init__(self, component: str, command: str) -> None:
        super().__init__(f"{component} is not available here; install it with: {command}")
        self.component = component
        self.command = command
