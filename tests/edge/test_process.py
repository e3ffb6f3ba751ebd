"""Child processes: what could be left behind, hang, or be taken for a command."""

from __future__ import annotations

import os
import sys

import pytest

from bsmtp_batch.edge.process import Child, environment


def python(code):
    return [sys.executable, "-I", "-c", code]


def read_all(child):
    parts = []
    while part := child.receive(20):
        parts.append(part)
    return b"".join(parts)


def test_a_dialogue_goes_both_ways():
    with Child(python("import sys\nfor l in sys.stdin: print(l.upper(), end='', flush=True)")) as child:
        child.send(b"one\n", 20)
        assert child.receive(20) == b"ONE\n"
        child.send(b"two\n", 20)
        assert child.receive(20) == b"TWO\n"
        assert child.finish(20) == 0


def test_an_argument_is_never_read_by_a_shell(tmp_path):
    target = tmp_path / "made"
    with Child([*python("import sys; print(sys.argv[1])"), f"$(touch {target}); touch {target}"]) as child:
        assert read_all(child).decode().strip() == f"$(touch {target}); touch {target}"

    assert not target.exists()


def test_a_file_is_read_from_its_place(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"skipped:taken")
    with path.open("rb", buffering=0) as file:
        file.seek(8)
        with Child(["cat"], source=file) as child:
            assert read_all(child) == b"taken"


def test_a_program_that_is_not_there_is_an_oserror():
    with pytest.raises(FileNotFoundError):
        Child(["/nonexistent/program"])


def test_a_silent_child_is_a_timeout_and_does_not_stay():
    with Child(python("import sys; sys.stdin.read()")) as child:
        pid = child._process.pid
        with pytest.raises(TimeoutError):
            child.receive(0.05)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_does_not_read_is_a_timeout():
    with Child(python("import threading; print('up', flush=True); threading.Event().wait()")) as child:
        assert child.receive(20) == b"up\n"
        with pytest.raises(TimeoutError):
            child.send(b"x" * 2_000_000, 0.2)


def test_a_child_that_died_is_a_broken_pipe():
    with Child(python("pass")) as child:
        assert child.receive(20) == b""
        child._process.wait(20)  # an ending process does not let go of its pipes at one moment
        with pytest.raises(BrokenPipeError):
            child.send(b"x", 20)


def test_the_reason_a_child_gives_is_kept():
    with Child(python("import sys; sys.stderr.write('first\\nfatal: no queue\\n\\n'); sys.exit(75)")) as child:
        assert child.receive(20) == b""
        assert child.finish(20) == 75
        assert child.complaint() == "fatal: no queue"


def test_a_child_that_outlives_its_time_is_told_apart():
    code = "import sys, threading; sys.stdin.read(); threading.Event().wait()"
    with Child(python(code)) as child, pytest.raises(TimeoutError, match="did not end"):
        child.finish(0.1)


def test_settings_of_ours_do_not_leak_into_children(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    monkeypatch.setenv("MAIL_CONFIG", "/etc/postfix-in")

    assert "LD_PRELOAD_NOT" not in environment()
    assert environment()["MAIL_CONFIG"] == "/etc/postfix-in"
