"""Two sessions wired to each other in memory, so that a test states only what one side says."""

from __future__ import annotations

from bsmtp_batch.wire.command import Mail, Rcpt
from bsmtp_batch.wire.events import Auth, Bdat, Data, EndOfData, Event, Helo, MailFrom, RcptTo, Reply, Request
from bsmtp_batch.wire.session import Protocol, Role, Session, State

MAIL = MailFrom(Mail(b"s@example.org"))
A = RcptTo(Rcpt(b"a@example.net"))
B = RcptTo(Rcpt(b"b@example.net"))
OK = Reply(250, b"2.0.0", b"ok")
GO = Reply(354, b"", b"go ahead")
NO = Reply(550, b"5.1.1", b"no")
OFFER = Reply(250, b"", b"hub\nPIPELINING\nCHUNKING\nSTARTTLS\nATRN")


class Talk:
    """A client and a server; ``client`` is whoever asks now, before and after a turn."""

    def __init__(self, protocol: Protocol = Protocol.SMTP) -> None:
        self.client = Session(Role.CLIENT, protocol)
        self.server = Session(Role.SERVER, protocol)

    def ask(self, *requests: Event) -> list[Event]:
        """The client sends ``requests`` in one go; the events that the server gets at once."""
        return self.server.receive(b"".join([self.client.send(request) for request in requests]))

    def tell(self, *replies: Reply) -> list[Event]:
        """The server sends ``replies``; the events of the client, which have to be the same replies."""
        said: list[Event] = []
        for reply in replies:
            said += self.client.receive(self.server.send(reply))
            self.read = self.server.resume()
        assert said == list(replies)
        return said

    def turn(self) -> None:
        """Both ends turn round."""
        self.client.turn()
        self.server.turn()
        self.client, self.server = self.server, self.client


def talk_in(state: State, protocol: Protocol = Protocol.SMTP) -> Talk:
    """Two ends that have talked until ``state``."""
    talk = Talk(protocol)
    if state is State.GREETING:
        return talk
    talk.tell(Reply(220, b"", b"hub.example"))
    ways: dict[State, list[tuple[Request, Reply]]] = {
        State.START: [],
        State.READY: [(Helo(b"me"), OFFER)],
        State.MAIL: [(MAIL, OK)],
        State.RCPT: [(A, OK)],
        State.CONTENT: [(Data(), GO)],
    }
    way = [State.READY, State.MAIL, State.RCPT, State.CONTENT]
    steps: list[tuple[Request, Reply]] = []
    if state is State.AUTH:
        steps = [*ways[State.READY], (Auth(b"LOGIN"), Reply(334, b"", b"VXNlcm5hbWU6"))]
    elif state is not State.START:
        steps = [step for place in way[: way.index(state) + 1] for step in ways[place]]
    for request, reply in steps:
        assert talk.ask(request) == [request]
        talk.tell(reply)
    assert talk.server.our_state is state
    return talk


__all__ = ["GO", "MAIL", "NO", "OFFER", "OK", "A", "B", "Bdat", "EndOfData", "Talk", "talk_in"]
