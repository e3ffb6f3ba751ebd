"""What an MTA is told when a message is not taken: a line it understands, and the exit code that goes with it.

Postfix bounces on most exit codes, but a first line of output that begins with ``4.x.y`` or ``5.x.y`` outranks the
code; Sendmail and Exim go by the code alone, and 75 is the only one with which all three keep the mail. So everything
that may work later is ``4.3.0`` and 75, whatever it was. A message that is taken is answered with silence: Exim can be
told to take any output for a failure.
"""

from __future__ import annotations

MALFORMED, TOO_BIG, LATER = 65, 69, 75


class Answer(Exception):
    """The message is not taken: ``code`` is the exit code, ``text`` the line for the MTA's log and the sender.

    ``drain`` says whether there is time to read the rest of the message first.
    """

    def __init__(self, code: int, text: str, *, drain: bool = True) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.drain = drain


def later(what: str, advice: str, *, drain: bool = True) -> Answer:
    """The MTA keeps the mail and tries again: ``what`` happened, and an ``advice`` to the postmaster."""
    return Answer(LATER, f"4.3.0 {what}; your MTA keeps the mail and tries again. {advice}", drain=drain)


def from_error(error: BaseException) -> Answer:
    """The answer to a failure that the system reported or that nobody foresaw."""
    if isinstance(error, Answer):
        return error
    if isinstance(error, PermissionError):
        return later(f"no permission: {error}", "Run the transport as the owner of the spool (user= in master.cf).")
    if isinstance(error, OSError):
        return later(f"the system reports: {error}", "See to the disk, or to the limits of this process.")
    if isinstance(error, MemoryError):
        return later("out of memory", "Give the transport more memory, or run fewer at a time.")
    if isinstance(error, KeyboardInterrupt):
        return later("interrupted", "Nothing needs to be done.", drain=False)
    return later(f"a bug in bsmtp-batch: {type(error).__name__}: {error}", "Please report this line.")


def shown(octets: bytes) -> str:
    """``octets`` in quotes, everything but printable ASCII escaped: fit for logs and terminals."""
    return ascii(octets.decode("utf-8", "backslashreplace"))


def one_line(text: str) -> bytes:
    """``text`` as one line of printable ASCII, whatever is in it, short enough for the pipe buffer of any MTA."""
    plain = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text[:1000])
    return plain.encode("ascii") + b"\n"
