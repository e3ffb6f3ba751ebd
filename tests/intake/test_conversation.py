"""A conversation, without a socket: whatever a client says, and however it is cut, it hears the same, and a message is
complete only where its envelope and its end were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fragments import make_route

from bsmtp_batch.intake.conversation import Conversation
from bsmtp_batch.intake.desk import Bounds, Desk
from bsmtp_batch.intake.message import kept, received_id
from bsmtp_batch.intake.routing import Routes

SAID = st.lists(
    st.sampled_from(
        [
            b"LHLO me\r\n",
            b"MAIL FROM:<a@b.example>\r\n",
            b"MAIL FROM:<a@b.example> SIZE=99999999\r\n",
            b"RCPT TO:<x@site.example>\r\n",
            b"RCPT TO:<x@none.example>\r\n",
            b"DATA\r\n",
            b"text\r\n.\r\n",
            b"BDAT 2\r\nab",
            b"BDAT 0 LAST\r\n",
            b"BDAT 9 LAST\r\nshort",
            b"XFORWARD IDENT=4F\r\n",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"STARTTLS\r\n",
            b"\0\r\n",
            b"x\n",
            b"QUIT\r\n",
        ]
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    made = tmp_path_factory.mktemp("spool")
    make_route(made, "site.example")
    return str(made)


def talk(spool, pieces):
    """What is heard, and the messages that came whole."""
    conversation = Conversation(Desk("hub.example", spool, Routes(spool, {}, ""), Bounds(octets=1_000_000)))
    heard = conversation.greeting()
    whole = []
    for piece in pieces:
        heard += conversation.receive(piece)
        while conversation.complete is not None or (conversation.behind and not conversation.over):
            message = conversation.complete
            if message is not None:
                whole.append((message.queue_id, [r.path for r in message.rcpts], b"".join(message.taken())))
                for route in message.routes:
                    message.verdicts[route] = kept("0" * 40)
                heard += conversation.settled(message)
            heard += conversation.go_on()
        if conversation.over:
            break
    return heard, whole


@given(said=SAID, random=st.randoms(use_true_random=False))
def test_the_same_is_heard_however_it_is_cut(spool, said, random):
    data = b"LHLO me\r\n" + b"".join(said)
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(9)))
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if b > a]

    whole = talk(spool, [data])

    # Where STARTTLS comes, what stands behind it decides about its answer, and that is a matter of cutting (RFC 3207).
    if b"STARTTLS" not in data:
        assert talk(spool, pieces) == whole == talk(spool, [bytes([octet]) for octet in data])
    assert all(rcpts and set(rcpts) == {b"x@site.example"} for _, rcpts, _ in whole[1])
    assert whole[0].count(b"kept as") == sum(len(rcpts) for _, rcpts, _ in whole[1])


@given(said=st.lists(st.binary(max_size=40)))
def test_no_octets_make_it_fall_over(spool, said):
    heard, whole = talk(spool, [piece for piece in said if piece])

    assert heard.startswith(b"220 ")
    assert whole == []


@pytest.mark.parametrize(
    ("top", "found"),
    [
        (
            b"Received: from a (b [1.2.3.4])\r\n\tby c (Postfix) with ESMTP id 5B2284C3\r\n\tfor <x@y>; Sun\r\n",
            b"5B2284C3",
        ),
        (b"Received: by c (Postfix, from userid 0)\r\n\tid 5B2284C3; Sun, 22 Nov 2026\r\n", b"5B2284C3"),
        (
            b"Received: (from root@localhost)\r\n\tby h (8.17.1/Submit) id 6AMC3sTN000045;\r\n\tSun\r\n",
            b"6AMC3sTN000045",
        ),
        (
            b"Received: from a by b with esmtp (Exim 4.96)\r\n\t(envelope-from <x>)\r\n\tid 1xV6J4-00000W-0G;\r\n",
            b"1xV6J4-00000W-0G",
        ),
        (b"RECEIVED: by x id\r\n abcd; y\r\n", b"abcd"),
        (b"Subject: x\r\nReceived: by c id 5B2284C3; Sun\r\n", b""),
        (b"Received: by c; Sun\r\nX: id 5B2284C3;\r\n", b""),
        (b"Received: by c id 5B2284C3", b""),
        (b"", b""),
    ],
)
def test_the_queue_id_is_found_where_mtas_write_it_and_nowhere_else(top, found):
    assert received_id(top) == found
