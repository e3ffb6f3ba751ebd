"""What is taken: nothing an MTA hands over may arrive as something else, or be taken for something it is not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.handin import FROM, ROUTE, HandIn, read_fragment
from support.spooldir import make_route

from bsmtp_batch.spool import durable, names
from bsmtp_batch.wire.command import Mail, Rcpt

SMTPUTF8 = ((b"SMTPUTF8", None),)


def test_a_message_is_stored_as_one_transaction(either: HandIn) -> None:
    stored = either.accepts(*FROM, "second@site.example", message=b"Subject: a\n\n.\n..b\nlast")
    assert stored.mail == Mail(b"sender@example.org")
    assert stored.rcpts == (Rcpt(b"rcpt@site.example"), Rcpt(b"second@site.example"))
    assert stored.content == b"Subject: a\r\n\r\n.\r\n..b\r\nlast\r\n"
    assert os.listdir(either.home / "tmp") == []


def test_a_fragment_is_named_by_its_digest_and_for_its_owner_only(hand_in: HandIn) -> None:
    hand_in.accepts()
    (name,) = hand_in.new()
    path = hand_in.home / "new" / name
    _, digest = names.parse_fragment(name) or ("", "")
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_048_576, 3_000_000])
def test_a_message_of_any_size_comes_through_whole(hand_in: HandIn, size: int) -> None:
    message = (b"." + b"x" * 70 + b"\r\n") * (size // 73 + 1)
    message = message[: size // 73 * 73]
    assert hand_in.accepts(*FROM, message=message).content == message


@pytest.mark.parametrize("sender", ["<>", "", "MAILER-DAEMON", "<MAILER-DAEMON>"])
def test_the_null_sender_is_known_in_each_of_its_spellings(either: HandIn, sender: str) -> None:
    assert either.accepts("-f", sender, "--", ROUTE, "a@b").mail == Mail(b"")


def test_a_mailer_daemon_with_a_domain_is_somebody(hand_in: HandIn) -> None:
    assert hand_in.accepts("-f", "MAILER-DAEMON@hub.example", ROUTE, "a@b").mail == Mail(b"MAILER-DAEMON@hub.example")


def test_a_route_may_know_one_more_spelling_of_the_null_sender(hand_in: HandIn) -> None:
    (hand_in.home / "limits").write_text("min_free 0\nnull_sender MAILER-DAEMON@hub.example\n")
    assert hand_in.accepts("-f", "MAILER-DAEMON@hub.example", ROUTE, "a@b").mail == Mail(b"")
    assert hand_in.accepts("-f", "<>", ROUTE, "a@b").mail == Mail(b"")


@pytest.mark.parametrize(
    "address",
    [
        b"-oX/tmp/x@site.example",
        b"--help@x",
        b'"a b"@site.example',
        b'"a@b"@x',
        b"|cat@x",
        b"a..b@x",
        b"postmaster",
        b"${IFS}`id`@x",
    ],
    ids=repr,
)
def test_a_legal_but_alarming_address_is_taken_as_it_is(hand_in: HandIn, address: bytes) -> None:
    stored = hand_in.accepts("-f", address, "--", ROUTE, address, b"<" + address + b">")
    assert stored.mail == Mail(address)
    assert stored.rcpts == (Rcpt(address), Rcpt(address))


def test_a_source_route_is_taken_off(hand_in: HandIn) -> None:
    assert hand_in.accepts("-f", "<@a,@b:c@d>", ROUTE, "@x:y@z").mail == Mail(b"c@d")


def test_a_thousand_recipients_keep_their_order(hand_in: HandIn) -> None:
    rcpts = [f"user{n}@site.example" for n in range(1000)]
    assert [rcpt.path.decode() for rcpt in hand_in.accepts("-f", "a@b", "--", ROUTE, *rcpts).rcpts] == rcpts


def test_an_address_in_utf8_is_announced(either: HandIn) -> None:
    rcpt = "jürgen@bücher.example".encode()
    stored = either.accepts("-f", "a@b", "--", ROUTE, rcpt)
    assert (stored.mail, stored.rcpts) == (Mail(b"a@b", SMTPUTF8), (Rcpt(rcpt),))
    assert either.accepts("-f", rcpt, "--", ROUTE, "a@b").mail == Mail(rcpt, SMTPUTF8)


def test_a_classic_route_gets_no_parameter(hand_in: HandIn) -> None:
    (hand_in.home / "limits").write_text("min_free 0\ndialect classic\n")
    assert hand_in.accepts("-f", "ü@x".encode(), "--", ROUTE, "a@b").mail == Mail("ü@x".encode())


def test_a_from_line_is_dropped(either: HandIn) -> None:
    message = b"From a@b Mon Jan  1 00:00:00 2026\nSubject: x\n\nFrom here\n"
    assert either.accepts(*FROM, message=message).content == b"Subject: x\r\n\r\nFrom here\r\n"


def test_dots_are_doubled_once_whoever_does_it(hand_in: HandIn) -> None:
    raw = hand_in.accepts(*FROM, message=b".a\n..b\n")
    assert hand_in.accepts("--dots", "stuffed", *FROM, message=b"..a\n...b\n") == raw
    assert hand_in.accepts("--dots=raw", *FROM, message=b".a\n..b\n") == raw


def test_nul_and_stray_cr_go_by_rule(hand_in: HandIn) -> None:
    assert hand_in.accepts(*FROM, message=b"a\0b\rc\n\0.\n").content == b"ab c\r\n.\r\n"


def test_the_route_is_found_in_any_case_and_with_brackets(hand_in: HandIn) -> None:
    hand_in.accepts("-f", "a@b", "[Site.EXAMPLE]", "c@d")


def test_the_spool_may_come_from_the_environment(hand_in: HandIn) -> None:
    argv = [*hand_in.program, *FROM]
    environment = {"BSMTP_BATCH_SPOOL": str(hand_in.spool)}
    assert subprocess.run(argv, input=b"x\n", env=environment, timeout=50).returncode == 0
    assert len(hand_in.new()) == 1


def test_an_empty_message_is_a_message(hand_in: HandIn) -> None:
    assert hand_in.accepts(*FROM, message=b"").content == b""


def test_the_same_hand_in_again_is_stored_once(either: HandIn) -> None:
    for _ in range(3):
        assert either.run("--queue-id", "4XyZ", *FROM).returncode == 0
    assert len(either.new()) == 1


def test_a_hand_in_that_was_sealed_meanwhile_is_not_stored_again(either: HandIn) -> None:
    either.accepts("--queue-id", "4XyZ", *FROM)
    (name,) = either.new()
    key, _ = names.parse_fragment(name) or ("", "")
    (either.home / "sealed" / key).touch()
    (either.home / "new" / name).unlink()
    assert either.run("--queue-id", "4XyZ", *FROM).returncode == 0
    assert either.new() == [] == os.listdir(either.home / "tmp")
    either.accepts("--queue-id", "4XyZ", *FROM, message=b"another message\n")


def test_a_file_of_the_same_name_is_not_trusted_but_replaced(hand_in: HandIn) -> None:
    hand_in.accepts("--queue-id", "4XyZ", *FROM)
    (name,) = hand_in.new()
    path = hand_in.home / "new" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:10])  # what an earlier writer left whose fsync had failed
    assert hand_in.run("--queue-id", "4XyZ", *FROM).returncode == 0
    assert path.read_bytes() == whole


def test_two_equal_messages_by_hand_stay_two(hand_in: HandIn) -> None:
    hand_in.accepts()
    hand_in.accepts()
    assert len(hand_in.new()) == 2


def test_the_same_message_to_other_recipients_is_another(hand_in: HandIn) -> None:
    hand_in.accepts("--queue-id", "4XyZ", "-f", "a@b", ROUTE, "one@x")
    hand_in.accepts("--queue-id", "4XyZ", "-f", "a@b", ROUTE, "two@x")


def test_a_hand_in_waits_for_the_sealer_and_for_nobody_else(hand_in: HandIn) -> None:
    other = durable.lock(str(hand_in.home / "index.lock"), shared=True)
    hand_in.accepts()
    durable.unlock(other)
    sealer = durable.lock(str(hand_in.home / "index.lock"))
    with subprocess.Popen(hand_in.argv(*FROM), stdin=subprocess.PIPE, env={}) as process:
        assert process.stdin
        process.stdin.close()
        while not os.listdir(hand_in.home / "tmp") and process.poll() is None:
            pass
        assert process.poll() is None and len(hand_in.new()) == 1
        durable.unlock(sealer)
        assert process.wait(50) == 0
    assert len(hand_in.new()) == 2


@pytest.mark.parametrize("form", ["glued", "separate", "upstream"])
@pytest.mark.parametrize(("dash_d", "message"), [(False, b"From a b\n..x\n"), (True, b"From a b\n.x\n")])
def test_the_old_program_is_called_in_its_old_ways(
    either: HandIn, tmp_path: Path, form: str, dash_d: bool, message: bytes
) -> None:
    program = tmp_path / "bsmtp"
    program.symlink_to(either.program[-1])
    words = {
        "glued": [f"-t{ROUTE}", "-fs@x"],
        "separate": ["-t", ROUTE, "-f", "s@x"],
        "upstream": ["-f", "s@x", *(["-d"] if dash_d else []), ROUTE],
    }[form]
    if dash_d and form != "upstream":
        words.append("-d")
    argv = [*either.program[:-1], str(program), *words, "a@b", "-c@d"]
    environment = {"BSMTP_BATCH_SPOOL": str(either.spool)}
    done = subprocess.run(argv, input=message, env=environment, capture_output=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, b"")
    stored = read_fragment(either.home / "new" / either.new()[0])
    assert (stored.mail, stored.rcpts, stored.content) == (Mail(b"s@x"), (Rcpt(b"a@b"), Rcpt(b"-c@d")), b".x\r\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else takes root")
def test_what_root_hands_in_belongs_to_the_owner_of_the_spool(either: HandIn) -> None:
    # Not below tmp_path, where nobody else may go.
    with tempfile.TemporaryDirectory(prefix="bsmtp-owner.") as directory:
        os.chmod(directory, 0o755)
        either.spool, either.home = Path(directory, "spool"), Path(directory, "spool", "out", ROUTE)
        make_route(either.spool, ROUTE)
        for path in (either.spool, *either.spool.rglob("*")):
            os.chown(path, 65534, 65534)

        either.accepts(*FROM, message=b"Subject: large\n\n" + b"x\n" * 1_000_000)

        owners = {(path.stat().st_uid, path.stat().st_gid) for path in either.spool.rglob("*")}
        assert owners == {(65534, 65534)}
