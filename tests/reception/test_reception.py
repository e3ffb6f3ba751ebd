from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsmtp_batch.batch.events import Fault, Severity
from bsmtp_batch.batch.file import BatchFile
from bsmtp_batch.batch.manifest import Manifest
from bsmtp_batch.errors import Later, Setting
from bsmtp_batch.ledger import Ledger
from bsmtp_batch.reception.contract import Limits
from bsmtp_batch.reception.line import Lost, answers, converse
from bsmtp_batch.reception.session import Reception
from bsmtp_batch.reception.store import Store
from bsmtp_batch.spool import durable
from bsmtp_batch.spool.inbox import Inbox
from bsmtp_batch.wire.dots import Canonicaliser, unstuff
from bsmtp_batch.wire.events import Reply
from bsmtp_batch.wire.session import Role, Session

HELLO = b"EHLO hub.example\r\n"
ANY = Limits()
ENVELOPE = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"


class Site:
    """A reception that stores into a spool below ``directory``."""

    def __init__(self, directory, *, limits=ANY, policy=None, **more):
        self.inbox = Inbox(str(directory), "hub.example")
        self.told = []
        Path(directory).mkdir(exist_ok=True)
        store = Store(
            self.inbox, "site.example", lambda: Ledger(f"{directory}/ledger.db"), tell=self.told.append, **more
        )
        self.session = Session(Role.SERVER)
        self.reception = Reception(
            self.session, name="site.example", sink=store, limits=limits, policy=policy, extra=lambda: [b"XSTAY"]
        )
        self.out = self.reception.greeting()

    def say(self, *pieces):
        """The answers to ``pieces``."""
        return b"".join(answers(self.session, self.reception, piece) for piece in pieces)

    def stored(self):
        """Envelope and content of each message in new/, each checked as import will check it."""
        found = []
        for path in sorted(Path(self.inbox.at("new")).glob("*.bsmtp")):
            manifest = Manifest.from_bytes(Path(f"{path}.json").read_bytes())
            with path.open("rb") as file:
                batch = BatchFile(file)
                (message,) = batch.scan(Severity.STRICT)
                assert not isinstance(message, Fault)
                summary = batch.summary
                assert not manifest.matches(batch.size, batch.sha256, summary.messages, summary.recipients)
                assert manifest.name == path.name
                content = b"".join(batch.content(message))
            found.append((message.mail, message.rcpts, content))
        return found

    def left(self):
        return os.listdir(self.inbox.at("tmp"))


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "spool")


def codes(out):
    return [int(line[:3]) for line in out.split(b"\r\n") if line[3:4] == b" "]


def test_a_message_is_in_new_before_the_client_hears_that_it_is(site, monkeypatch):
    said = []
    real = durable.rename_durably
    monkeypatch.setattr(durable, "rename_durably", lambda *a, **k: (said.append("renamed"), real(*a, **k)))

    out = site.say(HELLO + ENVELOPE, b"Subject: x\r\n\r\n..dot\r\n.\r\n", b"QUIT\r\n")

    assert codes(out) == [250, 250, 250, 354, 250, 221]
    assert said[-1] == "renamed"
    ((mail, rcpts, content),) = site.stored()
    assert (mail.path, [r.path for r in rcpts]) == (b"a@x.org", [b"b@y.org"])
    assert content == b"Subject: x\r\n\r\n.dot\r\n"
    assert site.left() == []
    assert site.reception.over and site.reception.said_goodbye


def test_parameters_that_a_pipe_cannot_carry_are_kept(site):
    site.say(
        HELLO,
        b"MAIL FROM:<> BODY=8BITMIME SIZE=10 RET=HDRS ENVID=q1\r\n",
        b"RCPT TO:<b@y.org> NOTIFY=NEVER\r\nDATA\r\n",
        b"\xc3\xa9\r\n.\r\n",
    )

    ((mail, rcpts, _),) = site.stored()
    assert (b"ENVID", b"q1") in mail.params
    assert rcpts[0].params == ((b"NOTIFY", b"NEVER"),)


def test_a_clock_that_was_set_back_makes_no_message_replace_another(tmp_path):
    site = Site(tmp_path / "s", now=lambda: 1_700_000_000.0)
    for number in range(3):
        site.say((HELLO if not number else b"") + ENVELOPE + b"%d\r\n.\r\n" % number)

    assert sorted(content for _, _, content in site.stored()) == [b"0\r\n", b"1\r\n", b"2\r\n"]


def test_several_messages_of_one_connection_are_several_batches(site):
    for number in range(3):
        site.say((HELLO if not number else b"") + ENVELOPE + b"%d\r\n.\r\n" % number)

    assert sorted(content for _, _, content in site.stored()) == [b"0\r\n", b"1\r\n", b"2\r\n"]


@settings(deadline=None, max_examples=60)  # each makes a spool
@given(st.binary(max_size=200), st.integers(1, 7))
def test_whatever_the_octets_the_stored_message_is_their_canonical_form(content, step):
    """Stray line ends, NUL, dots behind any of them: import must see one message, and the one that was sent."""
    text = Canonicaliser()
    expected = unstuff(text.feed(content) + text.close())
    wire = content.replace(b"\r\n.", b"\r\n..")
    wire = b"." + wire if wire.startswith(b".") else wire
    data = wire + (b"" if wire.endswith(b"\r\n") or not wire else b"\r\n") + b".\r\n"
    with tempfile.TemporaryDirectory() as directory:
        site = Site(directory)
        site.say(HELLO, ENVELOPE)
        out = site.say(*(data[i : i + step] for i in range(0, len(data), step)))
        assert codes(out) == [250]
        ((_, _, stored),) = site.stored()
    assert stored in (expected, expected + b"\r\n")


@pytest.mark.parametrize("end", [b"", b"RSET\r\n"])
def test_what_is_not_completed_leaves_nothing_behind(site, end):
    site.say(HELLO + ENVELOPE, b"half of a mess")

    site.say(end and b"")  # a RSET would be content here: only the end of the line ends it
    assert site.stored() == []
    assert site.left() == []
    assert site.reception.over


def test_a_message_larger_than_told_is_read_past_and_refused(tmp_path):
    site = Site(tmp_path / "s", limits=Limits(octets=1000))

    out = site.say(HELLO, b"MAIL FROM:<a@x.org> SIZE=1001\r\n", ENVELOPE, b"x" * 5000 + b"\r\n.\r\n", b"NOOP\r\n")

    assert codes(out) == [250, 552, 250, 250, 354, 552, 250]
    assert (site.stored(), site.left()) == ([], [])


def test_a_full_disk_is_said_before_the_content_and_after_it(tmp_path, monkeypatch):
    site = Site(tmp_path / "s", min_free=1 << 60)
    assert codes(site.say(HELLO + ENVELOPE))[-1] == 452

    other = Site(tmp_path / "t")
    other.say(HELLO + ENVELOPE)

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", full)
        assert codes(other.say(b"text\r\n.\r\n")) == [451]
    assert (other.stored(), other.left()) == ([], [])
    assert "No space" in other.told[0]
    assert codes(other.say(ENVELOPE + b"text\r\n.\r\n")) == [250, 250, 354, 250]


@pytest.mark.parametrize("kind", [Later, Setting])  # Setting: a newer program has changed it while we run
def test_a_ledger_that_cannot_be_written_costs_no_mail(site, monkeypatch, kind):
    def locked(*args):
        raise kind("the ledger is locked", safe="x", next="x")

    monkeypatch.setattr(Ledger, "note_batch", locked)

    assert codes(site.say(HELLO + ENVELOPE + b"x\r\n.\r\n"))[-1] == 250
    assert len(site.stored()) == 1
    assert "not in the ledger" in site.told[0]


def test_a_refused_recipient_is_not_in_the_stored_envelope(tmp_path):
    policy = lambda mail, rcpt: None if rcpt.path.endswith(b"@y.org") else Reply(550, b"5.7.1", b"not here")  # noqa: E731
    site = Site(tmp_path / "s", policy=policy)

    site.say(HELLO, b"MAIL FROM:<a@x.org>\r\nRCPT TO:<c@z.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n", b"x\r\n.\r\n")

    ((_, rcpts, _),) = site.stored()
    assert [r.path for r in rcpts] == [b"b@y.org"]


def test_more_recipients_than_one_message_may_have_wait_for_the_next(tmp_path):
    site = Site(tmp_path / "s", limits=Limits(recipients=2))

    out = site.say(HELLO, b"MAIL FROM:<a@x.org>\r\n", *[b"RCPT TO:<b@y.org>\r\n"] * 3)

    assert codes(out) == [250, 250, 250, 250, 452]


def test_a_client_that_only_makes_faults_or_only_talks_is_sent_away(tmp_path):
    for name, lines, last in (("f", b"NONSENSE\r\n", 421), ("t", b"NOOP\r\n", 421)):
        site = Site(tmp_path / name, limits=Limits(faults=5, idle=5))
        out = site.say(HELLO, *[lines] * 10)
        assert codes(out)[-1] == last
        assert site.reception.over


def test_what_is_not_for_a_reception_is_refused_and_goes_on(site):
    assert codes(site.say(HELLO, b"ETRN x.org\r\n", b"EXPN all\r\n", b"VRFY me\r\n", b"HELP\r\n")) == [
        250,
        502,
        502,
        252,
        214,
    ]
    assert b"XSTAY" in site.say(HELLO)


def test_without_a_sink_no_mail_is_taken(tmp_path):
    session = Session(Role.SERVER)
    reception = Reception(session, name="hub", sink=None, limits=Limits())
    reception.greeting()

    out = answers(session, reception, HELLO)
    assert b"SIZE" not in out
    assert codes(answers(session, reception, b"MAIL FROM:<a@x.org>\r\n")) == [550]


class Script:
    """A channel that gives ``pieces`` and takes everything."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.sent = b""

    def send(self, data, seconds):
        self.sent += data

    def receive(self, seconds):
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self):
        pass


def fresh(tmp_path):
    site = Site(tmp_path / "s")
    session = Session(Role.SERVER)
    reception = Reception(session, name="site", sink=site.reception._sink, limits=Limits())
    return site, session, reception


def test_a_conversation_ends_with_the_clients_quit(tmp_path):
    site, session, reception = fresh(tmp_path)
    line = Script(HELLO + ENVELOPE, b"x\r\n.\r\nQUIT\r\n")

    converse(session, reception, line)

    assert codes(line.sent) == [220, 250, 250, 250, 354, 250, 221]
    assert len(site.stored()) == 1


@pytest.mark.parametrize("end", [b"", TimeoutError(), ConnectionResetError(104, "reset")])
def test_a_line_that_dies_is_told_and_what_was_answered_stays(tmp_path, end):
    site, session, reception = fresh(tmp_path)
    line = Script(HELLO + ENVELOPE, b"x\r\n.\r\n", ENVELOPE + b"half", end)

    with pytest.raises(Lost):
        converse(session, reception, line)

    assert len(site.stored()) == 1
    assert site.left() == []
    if isinstance(end, TimeoutError):
        assert codes(line.sent)[-1] == 421
