"""Deliver: one process per message, from an MTA's pipe into the spool.

Either the message is durable in the spool and the exit code is 0, or the MTA is told to keep it (75) or that it can
never be taken (65, 69). There is no other way out: whatever goes wrong, a bug included, ends in ``4.3.0 ...`` and 75,
because an MTA takes any other end of a program for a reason to bounce.

An MTA waits for this once per message. The modules behind it import C modules only, and an installed package carries
them a second time, merged into one (``merge.py`` says why).
"""

from __future__ import annotations

import posix

from bsmtp_batch.deliver.answers import LATER, from_error, later, one_line
from bsmtp_batch.deliver.arguments import parse, parse_old
from bsmtp_batch.deliver.fragment import Fragment
from bsmtp_batch.deliver.intake import envelope, home_of, limits_of, take_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import NoReturn

    from bsmtp_batch.deliver.arguments import Request
else:
    import _signal  # what signal is made of, without the enumerations

_DEADLINE = 300  # seconds, until the route's own is known; Postfix kills after 1000, and then bounces


def run(argv: list[str]) -> NoReturn:
    """Hand in the message on standard input; ``argv`` is the whole command line, whose program may be ``bsmtp``."""
    if argv[0].rpartition("/")[2] == "bsmtp":
        bsmtp(argv[1:])
    main(argv[1:])


def main(argv: list[str]) -> NoReturn:
    """Hand in the message on standard input; ``argv`` are the arguments of ``bsmtp-batch deliver``."""
    _run(lambda: parse(argv))


def bsmtp(argv: list[str]) -> NoReturn:
    """The same under the old name; ``argv`` are the arguments of ``bsmtp``."""
    _run(lambda: parse_old(argv))


def _run(read_request: Callable[[], Request]) -> NoReturn:
    code = LATER  # of whatever fails on the way to an answer, such as memory
    try:
        try:
            _arm(_DEADLINE)
            _hand_in(read_request())
            code = 0
        except BaseException as error:  # noqa: BLE001 - no exception may reach the interpreter: it would exit with 1
            answer = from_error(error)
            code = answer.code
            if answer.drain:
                _drain()
            posix.write(1, one_line(answer.text))
    finally:
        posix._exit(code)


def _hand_in(request: Request) -> None:
    home = home_of(request)
    limits = limits_of(home)
    _arm(limits.deadline)
    fragment = Fragment(home)
    try:
        fragment.add(envelope(request, limits))
        take_message(request, limits, home, fragment)
        fragment.publish(request.queue_id, _undisturbed)
    except BaseException:
        fragment.discard()
        raise


def _arm(seconds: int) -> None:
    """Let SIGTERM, and the alarm after ``seconds``, end the hand-in as "later"."""

    def stop(number: int, frame: object) -> NoReturn:
        why = "asked to stop" if number == _signal.SIGTERM else f"not finished within {seconds} seconds"
        advice = "If that goes on, look at the load of the disk, or at deadline in the route's limits."
        raise later(why, advice, drain=False)

    _signal.signal(_signal.SIGTERM, stop)
    _signal.signal(_signal.SIGALRM, stop)
    _signal.alarm(seconds)


def _undisturbed() -> None:
    """From here on "later" would no longer be true: the mail may be ours already.

    A disk that hangs even now is left to the alarm, which kills: an MTA takes that for "later", and its retry is
    recognised.
    """
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)


def _drain() -> None:
    """Read what is left of the message: an MTA that meets a closed pipe may not look at the answer."""
    try:
        while posix.read(0, 1024 * 1024):
            pass
    except BaseException:  # noqa: BLE001, S110 - the answer is known; a deadline may end the wait for the rest of the input
        pass
