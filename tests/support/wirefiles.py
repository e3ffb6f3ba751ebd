"""Batch files for tests: making them by hand, reading them in odd pieces, and the pieces hypothesis plays with."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from bsmtp_batch.batch.events import Event, Fault, Limits, Message, Severity, Summary
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.reader import Reader
from bsmtp_batch.batch.writer import END, QUIT, greeting, transaction
from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.dots import Canonicaliser, stuff, unstuff

Written = tuple[Mail, Sequence[Rcpt], bytes]
"""Envelope and content of a message to be written."""


def write(messages: Iterable[Written], *, node: str = "hub.example", esmtp: bool = True) -> bytes:
    """A batch as the writer and the canonicaliser make it."""
    parts = [greeting(node, esmtp)]
    for mail, rcpts, content in messages:
        parts += [transaction(mail, rcpts), stuff(content), END]
    return b"".join([*parts, QUIT])


def simple(number: int, content: bytes = b"") -> Written:
    """A message that says its number."""
    text = content or b"Subject: %d\r\n\r\ntext of %d\r\n" % (number, number)
    return Mail(b"from%d@a.example" % number), (Rcpt(b"to%d@b.example" % number),), text


def read(
    data: bytes, severity: Severity, *, cuts: Sequence[int] = (), limits: Limits | None = None
) -> tuple[list[Event], Summary]:
    """Events and summary of ``data``, fed in the pieces that ``cuts`` make of it."""
    reader = Reader(severity, limits, digests=True)
    events: list[Event] = []
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        events += reader.feed(data[start:end])
    return events + reader.close(), reader.summary


def messages(events: Iterable[Event]) -> list[Message]:
    return [e for e in events if isinstance(e, Message)]


def faults(events: Iterable[Event]) -> list[Fault]:
    return [e for e in events if isinstance(e, Fault)]


def contents(data: bytes, events: Iterable[Event]) -> list[bytes]:
    """The content of each message in ``events``."""
    file = BatchFile(io.BytesIO(data))
    return [b"".join(file.content(m)) for m in messages(events)]


def canonical(data: bytes) -> bytes:
    """The content that ``data`` becomes."""
    canonicaliser = Canonicaliser()
    return unstuff(canonicaliser.feed(data) + canonicaliser.close())


_TEXT = (
    b".",
    b"..",
    b"a",
    b" ",
    b"\r\n",
    b"\r\n.",
    b"\n",
    b"\r",
    b"\0",
    b"\xc3\xbc",
    b"\xff",
    b"QUIT",
    b"DATA",
    b"x" * 70,
)
texts = st.lists(st.sampled_from(_TEXT), max_size=12).map(b"".join)
"""Text as an MTA might hand it over, with everything that makes trouble in it."""

_LOCALS = (b"a", b"-bp", b'"a b"', b'"a@b>"', b"\xc3\xbc", b"x" * 64, b"a..b", b"|sh", b"o'neil")
_DOMAINS = (b"@b.example", b"@[192.0.2.1]", b"@x--y.example", b"@\xc3\xbc.example", b"")
paths = st.builds(lambda a, b: a + b, st.sampled_from(_LOCALS), st.sampled_from(_DOMAINS))
_MAIL_PARAMS = ((), ((b"BODY", b"8BITMIME"), (b"SIZE", b"12")), ((b"SMTPUTF8", None),), ((b"RET", b"HDRS"),))
_RCPT_PARAMS = ((), ((b"NOTIFY", b"SUCCESS,DELAY"),), ((b"ORCPT", b"rfc822;a+40b"),))
mails = st.builds(Mail, st.just(b"") | paths, st.sampled_from(_MAIL_PARAMS))
rcpts = st.builds(Rcpt, paths, st.sampled_from(_RCPT_PARAMS))
written = st.lists(
    st.tuples(mails, st.lists(rcpts, min_size=1, max_size=4).map(tuple), texts.map(canonical)), max_size=4
)
"""Messages for :func:`write`."""

_LINES = (
    b"HELO hub.example",
    b"EHLO hub.example",
    b"ehlo",
    b"MAIL FROM:<a@b>",
    b"MAIL FROM:<> BODY=8BITMIME",
    b"mail from: a@b",
    b"MAIL FROM:<a b>",
    b"RCPT TO:<c@d>",
    b"RCPT TO:<>",
    b"DATA",
    b"DATA ",
    b".",
    b"..",
    b".x",
    b"text",
    b"354 go on",
    b"250 OK",
    b"",
    b"RSET",
    b"NOOP x",
    b"QUIT",
    b"BDAT 3",
    b"From a@b Sun",
    b"\xef\xbb\xbfHELO x",
    b"\x1a",
    b"y" * 60,
    b"z\0z",
)
_MESSAGE = (b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", b"Subject: x", b".")


@st.composite
def almost(draw: st.DrawFn) -> bytes:
    """A file that is nearly a batch: likely lines, mostly with one line end, sometimes cut."""
    newline = draw(st.sampled_from((b"\r\n", b"\r\n", b"\n")))
    groups = draw(st.lists(st.sampled_from(_LINES).map(lambda line: (line,)) | st.just(_MESSAGE), max_size=9))
    lines = [draw(st.sampled_from(_LINES[:2])), *(line for group in groups for line in group), b"QUIT"]
    odd = draw(st.integers(-6 * len(lines), len(lines) - 1))
    other = draw(st.sampled_from((b"\n", b"\r", b"\r\r\n", b"\r\n", b"")))
    data = b"".join(line + (other if n == odd else newline) for n, line in enumerate(lines))
    return data[: draw(st.sampled_from((None, None, None, -1, -2, -7)))]


cuts = st.lists(st.integers(0, 10_000), max_size=6)
