"""Listening, the bounds on many clients, and the end."""

from __future__ import annotations

import subprocess
import threading

import pytest
from support.certificates import certificate, server_context, trusting
from support.desk import Desk, Turned, plain
from support.fragments import fill
from support.odmr_raw import receive
from support.served import HubProgram, Served, dial
from support.sink import EndOfData, Sink

from bsmtp_batch.server import daemon as daemon_module


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path, clear=True)


def test_a_client_is_greeted_served_and_let_go(desk):
    with Served(desk.hub) as served:
        wire = dial(served.port)
        assert wire.reply() == b"220 hub.example ESMTP"
        assert b"250-ATRN" in wire.ask(b"EHLO x").split(b"\n")
        assert wire.ask(plain().strip()).startswith(b"235")
        assert wire.ask(b"QUIT").startswith(b"221")
        assert wire.line() == b""
        wire.close()
    assert served.told == []


def test_one_address_does_not_take_all_places(desk, monkeypatch):
    monkeypatch.setattr(daemon_module, "EACH", 3)
    with Served(desk.hub) as served:
        held = [dial(served.port) for _ in range(3)]
        assert all(wire.reply().startswith(b"220") for wire in held)
        turned_away = dial(served.port)
        assert turned_away.reply().startswith(b"421 4.3.2")
        assert turned_away.line() == b""
        other = dial(served.port, "127.0.0.2")
        assert other.reply().startswith(b"220")
        held[0].ask(b"QUIT")
        assert held[0].line() == b""
        held.append(dial(served.port))  # the place is free before the end of the connection can be seen
        assert held[-1].reply().startswith((b"220", b"421"))
        for wire in (*held, turned_away, other):
            wire.close()


def test_all_places_taken_is_said(desk, monkeypatch):
    monkeypatch.setattr(daemon_module, "SESSIONS", 2)
    with Served(desk.hub) as served:
        held = [dial(served.port, f"127.0.0.{n}") for n in (1, 2)]
        for wire in held:
            assert wire.reply().startswith(b"220")
        more = dial(served.port, "127.0.0.3")
        assert more.reply().startswith(b"421")
        for wire in (*held, more):
            wire.close()


def test_a_fault_of_ours_ends_one_session_and_is_told(desk):
    def broken(account):
        raise RuntimeError("no such thing")

    object.__setattr__(desk.hub, "sink", broken)
    with Served(desk.hub) as served:
        other, wire = dial(served.port), dial(served.port)
        other.reply()
        wire.reply()
        wire.ask(b"EHLO x")
        wire.say(plain().strip())
        assert wire.line() == b""
        assert other.ask(b"EHLO y").startswith(b"250")
        wire.close()
        other.close()
    assert len(served.told) == 1
    assert "no such thing" in served.told[0]


def test_whoever_says_nothing_is_told_to_go(desk):
    with Served(desk.hub, patience=0.002) as served:
        wire = dial(served.port)
        assert wire.reply().startswith(b"220")
        assert wire.reply().startswith(b"421")
        assert wire.line() == b""
        wire.close()


def test_a_stranger_who_talks_all_the_time_has_so_much_and_no_more(desk):
    """An octet now and then restarts no clock: the time to log in is one for the whole connection."""
    with Served(desk.hub, patience=0.004) as served:  # 0.48 s to log in
        wire = dial(served.port)
        wire.reply()
        gone = threading.Event()

        def drip():
            try:
                while not gone.wait(0.02):
                    wire.socket.sendall(b"x")
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert wire.reply().startswith(b"421")
        finally:
            gone.set()
            thread.join(20)
        wire.close()


def test_the_end_is_said_to_whoever_waits(desk):
    with Served(desk.hub) as served:
        wires = [dial(served.port) for _ in range(3)]
        for wire in wires:
            wire.reply()
        wires[1].ask(b"EHLO x")
        wires[2].put(b"EHL")
        served.stop()
        for wire in wires:
            assert wire.reply().endswith(b"going down"), wire.heard
            assert wire.line() == b""
            wire.close()
    assert served.told == []


def test_a_client_that_is_gone_in_the_middle_is_no_fault_of_ours(desk):
    with Served(desk.hub) as served:
        for said in (
            b"",
            b"EHLO x\r\nNO",
            b"EHLO x\r\nAUTH CRAM-MD5\r\n",
            b"EHLO x\r\n" + plain() + b"MAIL FROM:<a@b>\r\n",
        ):
            wire = dial(served.port)
            wire.socket.sendall(said)
            wire.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER, 0: a reset
            wire.close()
        last = dial(served.port)
        assert last.reply().startswith(b"220")
        last.close()
    assert served.told == []


def test_a_line_is_let_go_of_while_every_worker_waits_for_that(desk):
    """Newer lines of an account wait for the end of its old one; were that left to the workers, nobody would be
    answered before they give up."""
    sound, called, gone = desk.outbound.hold, threading.Event(), threading.Event()
    waiting, in_time = [], []

    class Slow(Turned):
        def send(self, channel, session):
            called.wait(20)

        def close(self):
            gone.set()

    def hold(account, domains, *, stay):
        if not stay:
            return Slow()
        waiting.append(account)
        if len(waiting) == 4:
            called.set()
        in_time.append(gone.wait(5))
        return sound(account, domains, stay=stay)

    desk.outbound.hold = hold
    with Served(desk.hub) as served:
        wires = [dial(served.port, f"127.0.0.{n}") for n in range(1, 6)]
        for wire in wires:
            wire.reply()
            wire.ask(b"EHLO x")
            assert wire.ask(plain().strip()).startswith(b"235")
        assert wires[0].ask(b"ATRN").startswith(b"250")
        for wire in wires[1:]:
            assert wire.ask(b"NOOP XSTAY").startswith(b"250")
        for wire in wires[1:]:  # as many as there are workers
            wire.put(b"ATRN\r\n")
        for wire in wires[1:]:
            assert wire.reply().startswith(b"250")
        for wire in wires:
            wire.close()
    assert in_time == [True] * 4


def test_tls_from_the_start_serves_and_shuts_out_those_without(desk, tmp_path):
    with Served(desk.hub, tls=server_context(tmp_path, "hub.example"), implicit=True) as served:
        clear = dial(served.port)
        clear.say(b"EHLO x", b"EHLO y")
        assert not clear.reader.read().startswith(b"2")
        wire = dial(served.port)
        wire.encrypt(trusting())
        assert wire.reply().startswith(b"220")
        assert b"STARTTLS" not in wire.ask(b"EHLO x")
        assert wire.ask(b"QUIT").startswith(b"221")
        for one in (clear, wire):
            one.close()


# --- the program --------------------------------------------------------------------------------------------------


def test_the_program_ends_with_0_also_while_a_line_stands(tmp_path):
    with HubProgram(tmp_path, "site") as hub:
        wire = hub.enter("site")
        assert wire.ask(b"NOOP XSTAY").startswith(b"250")
        assert wire.ask(b"ATRN").startswith(b"250")
        wire.say(b"220 site.example")
        assert wire.line().startswith(b"EHLO")
        wire.say(b"250 site.example")
        fill(hub.routes["site"], 1)
        assert wire.line().startswith(b"MAIL")  # it stands: mail comes
        wire.say(b"250 ok")
        wire.line()
        wire.say(b"250 ok")
        wire.line()
        wire.say(b"354 go on")
        wire.content()
        wire.say(b"250 ok")
        hub.terminate()
        assert wire.line() == b"QUIT"
        wire.say(b"221 bye")
        assert hub.stop() == 0
        assert wire.line() == b""
        wire.close()
    assert not [line for line in hub.log if "fault" in line or "Traceback" in line]


def test_the_program_ends_a_push_with_the_message_under_way(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def answer(asked):
        if isinstance(asked.request, EndOfData):
            begun.set()
            go_on.wait(30)

    with Sink(answer) as sink:
        peer = f'[peer.site]\nurl = "smtp://[127.0.0.1]:{sink.port}"\nroutes = ["site.example"]\nschedule = "at once"\n'
        hub = HubProgram(tmp_path, "site", more=peer + 'tls = "none"\n')
        fill(hub.routes["site"], 5)
        with hub:
            assert begun.wait(20)
            hub.terminate()
            with pytest.raises(OSError, match=r"refused|reset"):  # it has heard, perhaps while we were at the door
                while True:
                    dial(hub.port).close()
            go_on.set()
            assert hub.ended() == 0
    assert len(sink.taken) == 1
    assert len(hub.routes["site"].sealed()) == 1


def test_what_was_handed_over_is_gone_and_the_rest_waits_through_a_restart(tmp_path):
    hub = HubProgram(tmp_path, "site")
    fill(hub.routes["site"], 3)
    with hub:
        wire = hub.enter("site")
        assert wire.ask(b"ATRN site.example").startswith(b"250")
        assert len(receive(wire)) == 3
        wire.close()
        assert hub.stop() == 0
    fill(hub.routes["site"], 2, first=10)
    with hub:
        wire = hub.enter("site")
        assert wire.ask(b"ATRN").startswith(b"250")
        assert len(receive(wire)) == 2
        wire.close()
        wire = hub.enter("site")
        assert wire.ask(b"ATRN").startswith(b"453")
        wire.close()


def test_a_port_that_is_taken_is_for_later_and_a_certificate_that_is_missing_is_not(tmp_path):
    (tmp_path / "first").mkdir()
    with HubProgram(tmp_path / "first", "site") as first:
        again = HubProgram(tmp_path, "site", odmr=f"127.0.0.1:{first.port}")
        assert "ss -ltnp" in again.batch("serve", code=75).stderr

    made, key = certificate(tmp_path, "hub.example")
    for number, (cert, name) in enumerate(
        [(f"{tmp_path}/none.pem", key), (key, ""), (made, ""), (made, f"{tmp_path}/no")]
    ):
        home = tmp_path / f"c{number}"
        home.mkdir()
        hub = HubProgram(home, "site", serve=f'certificate = "{cert}"\nkey = "{name}"\n')
        done = hub.batch("serve", code=78)
        assert cert in done.stderr
    home = tmp_path / "nothing"
    home.mkdir()
    hub = HubProgram(home, "site")
    hub.config.write_text(hub.config.read_text().replace("odmr = ", "#"))
    assert "nothing to listen on" in hub.batch("serve", code=78).stderr


def test_a_dry_run_binds_nothing(tmp_path):
    hub = HubProgram(tmp_path, "site", odmr="127.0.0.1:1")
    assert "127.0.0.1:1" in hub.batch("serve", "--dry-run").stdout


def test_standard_error_that_nobody_reads_does_not_stop_it(tmp_path):
    hub = HubProgram(tmp_path, "site", serve="passwords_in_clear = true")
    process = subprocess.Popen(hub.command("serve"), env=hub.environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    port = int(process.stderr.readline().rpartition(":")[2])
    process.stderr.close()
    try:
        for _ in range(3):
            wire = dial(port)
            wire.reply()
            wire.ask(b"EHLO x")
            assert wire.ask(plain("site", hub.secrets["site"]).strip()).startswith(b"235")
            wire.close()
    finally:
        process.terminate()
        process.wait(30)
