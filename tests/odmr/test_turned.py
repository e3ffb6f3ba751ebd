"""After the turn: a provider that misbehaves, and a line that is cut at any octet."""

from __future__ import annotations

from collections import Counter

import pytest
from support.importing import Letter, letters
from support.odmr_hub import Gone, Hub, Plan
from support.relay import CLOSE, RESET, Relay

LETTERS = [*letters(2), Letter(content=b"Subject: dots\r\n\r\n.\r\n..x\r\n")]


def raw(*pieces):
    """A plan that says ``pieces`` after the greeting, and reads until the end."""

    def then(wire):
        wire.reply()
        for piece in pieces:
            wire.socket.sendall(piece)
        heard = []
        try:
            while True:
                heard.append(wire.line())
        except (Gone, OSError):
            plan.verdicts += heard

    plan = Plan(then=then)
    return plan


ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\n"


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        (b"A" * 9000 + b"\r\nQUIT\r\n", [b"500", b"221"]),
        (b"EHLO x\0\r\nQUIT\r\n", [b"500", b"221"]),
        (b"ATRN\r\nQUIT\r\n", [b"503", b"221"]),
        (b"AUTH PLAIN AAAA\r\nQUIT\r\n", [b"503", b"221"]),
        (ENVELOPE + b"ATRN\r\nQUIT\r\n", [b"503", b"221"]),
        (ENVELOPE + b"STARTTLS\r\nQUIT\r\n", [b"503", b"221"]),
    ],
)
def test_lines_that_make_no_sense_are_refused_and_the_line_stays_in_step(site, said, codes):
    plan = raw(said)
    with Hub(plan) as hub:
        site.collect(hub.port)
    ends = [line[:3] for line in plan.verdicts if line[3:4] == b" "]

    assert ends[-len(codes) :] == codes
    assert not site.stored()


def test_bare_line_feeds_and_dots_smuggle_no_second_message(site):
    text = b"Subject: x\r\n\r\nA\n.\nMAIL FROM:<evil@x.org>\n\r.\r\n.\nB\r\n.\r\n"
    plan = raw(ENVELOPE, b"DATA\r\n", text, b"QUIT\r\n")
    with Hub(plan) as hub:
        found = site.collect(hub.port)

    ((sender, rcpts, content),) = site.stored()
    assert (found.messages, sender, rcpts) == (1, b"a@x.org", (b"b@y.org",))
    assert b"evil" in content


def test_a_message_that_is_cut_off_is_forgotten(site):
    def then(wire):
        wire.reply()
        wire.socket.sendall(ENVELOPE + b"DATA\r\nSubject: half")

    with Hub(Plan(then=then)) as hub:
        found = site.collect(hub.port)

    assert (found.code, found.messages, site.stored()) == (75, 0, [])


def test_a_line_without_an_octet_is_given_up(site):
    def then(wire):
        wire.reply()
        wire.file.read()

    with Hub(Plan(then=then)) as hub:
        found = site.collect(hub.port, patience=0.001)

    assert (found.code, "long time" in found.result) == (75, True)


def _counts(found):
    return Counter((sender, rcpts, content) for sender, rcpts, content in found)


@pytest.mark.parametrize("how", [RESET, CLOSE])
def test_cut_at_any_octet_nothing_is_lost_and_one_message_at_most_comes_twice(site, how):
    """Contact after contact over a line that ends after 13 octets more each time, until one comes through whole."""
    wanted = Counter((one.sender, one.to, one.content) for one in LETTERS)
    plan = Plan(letters=list(LETTERS))
    cuts = 0
    with Hub(plan) as hub:
        relay = Relay(hub.port)
        try:
            for after in range(how == RESET, 10_000, 13):
                before = _counts(site.stored()).total()
                waiting = len(plan.letters)
                relay.cut(after, how)
                found = site.collect(relay.port, patience=0.02)
                for thread in hub.threads:
                    thread.join(20)
                gained = _counts(site.stored()).total() - before
                assert gained - (waiting - len(plan.letters)) in (0, 1), "at most one that the hub does not know of"
                if not relay.fired.is_set():
                    break
                cuts += 1
                plan.letters = list(LETTERS) if not plan.letters else plan.letters
            assert found.code == 0
        finally:
            relay.close()

    assert cuts > 30
    assert set(_counts(site.stored())) == set(wanted)
