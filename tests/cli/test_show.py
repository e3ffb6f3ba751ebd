"""``show``: what a batch holds, by whomever it was written."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
from support.wirefiles import simple, write

from bsmtp_batch.cli.app import run
from bsmtp_batch.wire.command import Mail, Rcpt

UMLAUT = "jörg@b.example".encode()
CONTENT = b".\r\n..\r\n\xff\r\n"
BATCH = write(
    [
        simple(1),
        (
            Mail(b"", ((b"BODY", b"8BITMIME"), (b"SMTPUTF8", None))),
            (Rcpt(UMLAUT, ((b"NOTIFY", b"NEVER"),)), Rcpt(b'"a b"@c.example')),
            CONTENT,
        ),
        simple(3),
    ]
)


@pytest.fixture
def stored(tmp_path):
    def store(data):
        (tmp_path / "batch.bsmtp").write_bytes(data)
        return str(tmp_path / "batch.bsmtp")

    return store


def test_json_is_one_object_per_message_with_these_members(stored, capsys):
    assert run(["show", stored(BATCH), "--json"]) == 0

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["message"] for row in rows] == [1, 2, 3]
    assert rows[1] == {
        "message": 2,
        "mail_from": "",
        "rcpt_to": ["jörg@b.example", '"a b"@c.example'],
        "parameters": {"BODY": "8BITMIME", "SMTPUTF8": True},
        "rcpt_parameters": [{"NOTIFY": "NEVER"}, {}],
        "offset": BATCH.index(b"..\r\n...\r\n"),
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }


@pytest.mark.parametrize("made", [lambda b: b, gzip.compress, lambda b: b.replace(b"\r\n", b"\n")])
def test_raw_gives_the_content_without_added_dots(made, stored, capfdbinary):
    assert run(["show", stored(made(BATCH)), "-m", "2", "--raw"]) == 0

    assert capfdbinary.readouterr().out == CONTENT


def test_people_see_envelopes_with_nothing_a_terminal_acts_on(stored, capsys):
    assert run(["show", stored(BATCH)]) == 0

    out = capsys.readouterr().out
    assert "message 2: 10 bytes at byte " in out
    assert "  MAIL FROM:<> BODY=8BITMIME SMTPUTF8\n  RCPT TO:<jörg@b.example> NOTIFY=NEVER\n" in out
    assert out.replace("\n", "").isprintable()


def test_one_message_is_shown_alone(stored, capsys):
    assert run(["show", stored(BATCH), "-m", "3"]) == 0

    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("message")] == [
        line for line in run_lines(stored(BATCH), capsys) if line.startswith("message 3")
    ]


def run_lines(path, capsys):
    run(["show", path])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_of_a_faulty_file_the_messages_before_the_fault_are_shown(flags, stored, capsys):
    cut = BATCH[: BATCH.index(b"MAIL FROM:<from3") + 3]

    assert run(["show", stored(cut), *flags]) == 65

    out, err = capsys.readouterr()
    assert out.count("sha256") == 2
    assert err == f"message 3, line 17, byte {len(cut) - 3}: the last line has no line end: the file was cut\n"


def test_a_bad_message_is_named_and_the_rest_is_shown(stored, capsys):
    bad = BATCH.replace(b"<to1@b.example>", b"<to1 b.example>")

    assert run(["show", stored(bad), "--json"]) == 65

    out, err = capsys.readouterr()
    assert [json.loads(line)["message"] for line in out.splitlines()] == [2, 3]
    assert err.startswith("message 1, line 3, byte 47: in RCPT, ")


def test_raw_of_a_faulty_file_gives_the_text_and_tells_of_the_fault(stored, capfdbinary):
    assert run(["show", stored(BATCH[:-3]), "-m", "2", "--raw"]) == 65

    out, err = capfdbinary.readouterr()
    assert out == CONTENT
    assert err.startswith(b"message 4, ")


@pytest.mark.parametrize(
    "flags", [["--raw"], ["-m", "1", "--raw", "--json"], ["-m", "4"], ["-m", "4", "--raw"], ["-m", "0"], ["-m", "x"]]
)
def test_what_makes_no_sense_is_usage(flags, stored, capsys):
    assert run(["show", stored(BATCH), *flags]) == 64
    assert capsys.readouterr().out == ""


def test_no_such_file_is_usage(tmp_path, capsys):
    assert run(["show", str(tmp_path / "none")]) == 64
    assert "cannot be opened: No such file or directory" in capsys.readouterr().err


def test_warnings_go_to_standard_error(stored, capsys):
    assert run(["show", stored(BATCH.removesuffix(b"QUIT\r\n"))]) == 0
    assert "warning: line 24: no QUIT at the end" in capsys.readouterr().err


def test_help_gives_exit_codes_and_an_example(capsys):
    assert run(["show", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit codes:" in out and "Example:" in out and "65" in out


def test_a_file_s_name_moves_no_terminal(tmp_path, capsys):
    assert run(["show", str(tmp_path / "x\x1b[2J\x9b1m\nbsmtp-batch: all is well.bsmtp")]) == 64

    assert capsys.readouterr().err.rstrip("\n").isprintable()
