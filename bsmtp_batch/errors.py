"""What can go wrong, told so that a postmaster knows what happened, what stays safe and what to do next.

Each kind carries the exit code of the commands: 75 something is left for later, 65 something
was set aside as bad, 64 usage, 78 configuration, 70 a bug of ours.
"""

from __future__ import annotations


class Problem(Exception):
    """A failure with a sentence for each of the three questions an operator asks.

    ``what`` happened, what stays ``safe``, and what to do ``next``. ``code`` is the exit code of the command.
    Raised through its subclasses only.
    """

    code = 70

    def __init__(self, what: str, *, safe: str, next: str) -> None:  # noqa: A002 - the word users read
        super().__init__(what)
        self.what = what
        self.safe = safe
        self.next = next

    def __str__(self) -> str:
        return f"{self.what}. {self.safe}. Next: {self.next}"


class Later(Problem):
    """Nothing is wrong for good: the same command may succeed when it is run again (exit code 75)."""

    code = 75


class Bad(Problem):
    """Input that will never be right: it was refused or set aside, with its reason (exit code 65)."""

    code = 65


class Usage(Problem):
    """The command line asks for something that makes no sense (exit code 64)."""

    code = 64


class Setting(Problem):
    """The configuration, or the spool it names, cannot be used as it is (exit code 78)."""

    code = 78


class Faults(Setting):
    """Everything that is wrong with a settings file: ``faults`` are place and sentence of each."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        told = "".join(f"\n  {place}: {sentence}" for place, sentence in faults)
        super().__init__(
            f"the settings cannot be used:{told}\nNone of the settings is in force",
            safe="Nothing was changed; what the MTA hands in by pipe is taken all the same, and other mail waits",
            next="mend the places named and run the command again",
        )
        self.faults = faults
