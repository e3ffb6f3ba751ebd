"""What is not taken: every fault has its exit code and its line, keeps nothing, and none may become a bounce."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import debian
from support.handin import FROM, ROUTE, HandIn
from support.spooldir import PACKAGE, make_installation, make_route

from bsmtp_batch.spool import durable

LARGE = b"x" * 70 + b"\n"
BAD_ADDRESSES = [
    b"a b@x",
    b"a@b\r\nRCPT TO:<evil@x>",
    b"a@b\n",
    b"a\t@b",
    b"<a@b",
    b"a@b>",
    b"a@b> SIZE=1",
    b'"a@b',
    b"a@",
    b"@b",
    b"a@b..c",
    b"a@b@c",
    b"a@b\xff",
    b"x" * 300 + b"@b",
]


@pytest.mark.parametrize("address", BAD_ADDRESSES, ids=lambda address: repr(address[:25]))
def test_a_malformed_address_is_refused_for_good(hand_in: HandIn, address: bytes) -> None:
    hand_in.refuses(65, "5.1.7 sender ", "-f", address, "--", ROUTE, "c@d")
    hand_in.refuses(65, "5.1.3 recipient ", "-f", "a@b", "--", ROUTE, "c@d", address)


def test_a_null_recipient_is_refused_for_good(either: HandIn) -> None:
    for null in ("", "<>"):
        either.refuses(65, "5.1.3 ", "-f", "a@b", "--", ROUTE, null)


def test_too_many_recipients_are_refused_for_good(hand_in: HandIn) -> None:
    hand_in.refuses(65, "5.5.3 ", "-f", "a@b", "--", ROUTE, *[f"{n}@x" for n in range(1001)])


@pytest.mark.parametrize("lines", [2, 30_000])
def test_a_message_over_the_limit_is_refused_for_good(either: HandIn, lines: int) -> None:
    (either.home / "limits").write_text(f"min_free 0\nmax_size {72 * lines - 1}\n")
    either.refuses(69, "5.3.4 ", *FROM, message=LARGE * lines)
    (either.home / "limits").write_text(f"min_free 0\nmax_size {72 * lines}\n")
    either.accepts(*FROM, message=LARGE * lines)


def test_the_last_line_end_that_was_missing_counts(hand_in: HandIn) -> None:
    (hand_in.home / "limits").write_text("min_free 0\nmax_size 10\n")
    hand_in.refuses(69, "5.3.4 ", *FROM, message=b"123456789")


def test_nul_is_refused_where_the_route_says_so(hand_in: HandIn) -> None:
    (hand_in.home / "limits").write_text("min_free 0\nnul refuse\n")
    assert "byte 3 " in hand_in.refuses(65, "5.6.0 ", *FROM, message=b"abc\0d\n")


@pytest.mark.parametrize("arguments", [["-f", "a b", ROUTE, "c@d"], ["-f", "a@b", "nowhere.example", "c@d"], ["-x"]])
def test_the_mta_may_write_its_message_to_the_end_before_a_refusal(hand_in: HandIn, arguments: list[str]) -> None:
    message = LARGE * 100_000
    with subprocess.Popen(hand_in.argv(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdin
        assert process.stdin.write(message) == len(message)  # no broken pipe
        process.stdin.close()
        assert process.wait(50) in (65, 75)


def test_a_route_that_is_not_there_is_named_with_the_command_that_makes_it(either: HandIn) -> None:
    line = either.refuses(75, "4.3.0 ", "-f", "a@b", "Other.example", "c@d")
    assert f"{either.spool}/out/other.example" in line
    assert "bsmtp-batch route add other.example" in line
    assert not (either.spool / "out" / "other.example").exists()


@pytest.mark.parametrize(
    "route",
    ["..", ".", "", "../site.example", "/etc", "a/b", "-x", "a..b", "bücher.example", "site.example/new", "a\n"],
)
def test_a_name_that_is_no_route_leads_nowhere(hand_in: HandIn, route: str) -> None:
    hand_in.refuses(75, "4.3.0 ", "-f", "a@b", "--", route, "c@d")


def test_a_spool_that_is_not_there_is_a_wiring_mistake(hand_in: HandIn) -> None:
    hand_in.refuses(75, "4.3.0 ", "--spool", "/nonexistent", *FROM)
    hand_in.refuses(75, "4.3.0 ", "--spool", str(hand_in.home / "limits"), *FROM)


@pytest.mark.parametrize("missing", ["tmp", "new", "sealed"])
def test_a_directory_that_went_missing_is_not_made(hand_in: HandIn, missing: str) -> None:
    (hand_in.home / missing).rmdir()
    done = hand_in.run()
    if missing == "sealed":  # empty is what it means as well
        assert done.returncode == 0
    else:
        assert (done.returncode, done.stdout[:6]) == (75, b"4.3.0 ")
    assert not (hand_in.home / missing).exists()


@pytest.mark.parametrize("limits", [b"max_size many\n", b"\xff\xfe", b"speed 9\n", b"nul perhaps\n"], ids=repr)
def test_a_bad_setting_keeps_the_mail_with_the_mta(either: HandIn, limits: bytes) -> None:
    (either.home / "limits").write_bytes(limits)
    assert f"{either.home}/limits" in either.refuses(75, "4.3.0 ")


def test_without_a_limits_file_the_defaults_hold(hand_in: HandIn) -> None:
    (hand_in.home / "limits").unlink()
    assert hand_in.run().returncode in (0, 75)  # 75 on a machine that is all but full


def test_too_little_space_keeps_the_mail_with_the_mta(hand_in: HandIn) -> None:
    disk = os.statvfs(hand_in.home)
    (hand_in.home / "limits").write_text(f"min_free {disk.f_blocks * disk.f_frsize}\n")
    assert "min_free" in hand_in.refuses(75, "4.3.0 ")
    hand_in.refuses(75, "4.3.0 ", *FROM, message=LARGE * 30_000)


def test_too_few_inodes_keep_the_mail_with_the_mta(hand_in: HandIn) -> None:
    if not os.statvfs(hand_in.home).f_files:
        pytest.skip("this file system counts no inodes")
    (hand_in.home / "limits").write_text(f"min_free 0\nmin_inodes {os.statvfs(hand_in.home).f_files + 1}\n")
    assert "min_inodes" in hand_in.refuses(75, "4.3.0 ")


def test_dots_that_are_not_doubled_as_said_are_a_wiring_mistake(hand_in: HandIn) -> None:
    hand_in.refuses(75, "4.3.0 ", "--dots", "stuffed", *FROM, message=b"a\n.\n")


@pytest.mark.parametrize(("size", "came"), [(5000, 100), (1, 0), (3_000_000, 2_500_000)])
def test_a_message_clearly_shorter_than_announced_is_held_back(hand_in: HandIn, size: int, came: int) -> None:
    hand_in.refuses(75, "4.3.0 ", "--size", str(size), *FROM, message=b"x" * came)


@pytest.mark.parametrize(("size", "came"), [("", 100), ("0", 0), ("100", 5000), ("1100", 100), ("102000", 100_000)])
def test_a_size_that_is_only_about_right_is_right(hand_in: HandIn, size: str, came: int) -> None:
    hand_in.accepts("--size", size, *FROM, message=b"x" * came)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-f"],
        ["-f", "a@b"],
        ["-f", "a@b", ROUTE],
        ["-f", "a@b", "--", ROUTE],
        [ROUTE, "c@d"],
        ["--unknown", "x", "-f", "a@b", ROUTE, "c@d"],
        ["--dots", "maybe", "-f", "a@b", ROUTE, "c@d"],
        ["--size", "-1", "-f", "a@b", ROUTE, "c@d"],
        ["--size", "x", "-f", "a@b", ROUTE, "c@d"],
        ["--queue-id"],
        ["-", "-f", "a@b", ROUTE, "c@d"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_keeps_the_mail_with_the_mta(hand_in: HandIn, arguments: list[str]) -> None:
    done = subprocess.run([*hand_in.program, *arguments], input=b"x\n", capture_output=True, env={}, timeout=50)
    assert "deliver [--spool DIR]" in hand_in.check_refusal(done.returncode, done.stdout, 75, "4.3.0 ")


def close_stdin() -> None:
    os.close(0)


def close_stdout() -> None:
    os.close(1)


@pytest.mark.parametrize("close", [close_stdin, close_stdout])
def test_a_closed_descriptor_is_no_reason_to_bounce(hand_in: HandIn, close: Callable[[], None]) -> None:
    argv = hand_in.argv("-f", "a@b", "nowhere.example", "c@d")
    assert subprocess.run(argv, env={}, preexec_fn=close, timeout=50, stdin=subprocess.DEVNULL).returncode == 75


def test_standard_input_that_cannot_be_read_keeps_the_mail_with_the_mta(hand_in: HandIn, tmp_path: Path) -> None:
    for_writing = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    done = subprocess.run(hand_in.argv(*FROM), stdin=for_writing, capture_output=True, env={}, timeout=50)
    os.close(for_writing)
    hand_in.check_refusal(done.returncode, done.stdout, 75, "4.3.0 ")


def started(hand_in: HandIn) -> subprocess.Popen[bytes]:
    """A hand-in that has read 2 MB and waits for the rest of its message."""
    process = subprocess.Popen(
        hand_in.argv(*FROM), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}
    )
    assert process.stdin
    process.stdin.write(b"x" * 2_000_000)
    process.stdin.flush()
    while not os.listdir(hand_in.home / "tmp"):
        assert process.poll() is None
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGALRM])
def test_a_hand_in_that_is_told_to_stop_says_later(either: HandIn, number: signal.Signals) -> None:
    with started(either) as process:
        process.send_signal(number)
        assert process.stdout
        either.check_refusal(process.wait(50), process.stdout.read(), 75, "4.3.0 ")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_hand_in_that_is_killed_has_said_nothing(hand_in: HandIn, number: signal.Signals) -> None:
    with started(hand_in) as process:
        process.send_signal(number)
        assert process.wait(50) == -number
        assert hand_in.new() == []


def test_a_message_that_does_not_end_is_not_waited_for_longer_than_the_deadline(hand_in: HandIn) -> None:
    (hand_in.home / "limits").write_text("min_free 0\ndeadline 1\n")
    with started(hand_in) as process:
        assert process.stdout
        line = hand_in.check_refusal(process.wait(50), process.stdout.read(), 75, "4.3.0 ")
        assert "1 seconds" in line


def test_a_lock_that_nobody_lets_go_is_not_waited_for_longer_than_the_deadline(hand_in: HandIn) -> None:
    (hand_in.home / "limits").write_text("min_free 0\ndeadline 1\n")
    held = durable.lock(str(hand_in.home / "index.lock"))
    hand_in.refuses(75, "4.3.0 ")
    durable.unlock(held)


@pytest.mark.parametrize(
    "text",
    ["raise RuntimeError()", "import nosuchmodule", "def broken(", "run = None", "raise SystemExit(0)", "1/0"],
)
def test_a_program_that_is_broken_keeps_the_mail_with_the_mta(tmp_path: Path, hand_in: HandIn, text: str) -> None:
    program = make_installation(tmp_path / "broken")
    (module,) = (tmp_path / "broken").rglob("bsmtp_batch_deliver.py")
    module.write_text(text + "\n")
    done = HandIn(program, hand_in.spool, hand_in.home).run()
    assert (done.returncode, done.stdout[:6]) == (75, b"4.3.0 ")


def test_a_program_whose_modules_are_gone_keeps_the_mail_with_the_mta(tmp_path: Path, hand_in: HandIn) -> None:
    program = make_installation(tmp_path / "gone")
    for module in (tmp_path / "gone").rglob("bsmtp_batch_deliver*"):
        module.unlink()
    done = HandIn(program, hand_in.spool, hand_in.home).run()
    assert (done.returncode, done.stdout[:6], done.stderr) == (75, b"4.3.0 ", b"")


def limited(what: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (value, value))


def test_any_memory_limit_under_which_python_starts_ends_in_an_answer(hand_in: HandIn, tmp_path: Path) -> None:
    """Below that nothing of ours has begun to run, and the interpreter ends with its own codes."""
    bare = tmp_path / "bare.py"
    bare.write_text("import posix\nposix._exit(0)\n")
    step = 256 * 1024

    def runs(argv: list[str | bytes], steps: int) -> subprocess.CompletedProcess[bytes]:
        limit = limited(resource.RLIMIT_AS, steps * step)
        return subprocess.run(argv, input=LARGE * 20_000, capture_output=True, env={}, preexec_fn=limit, timeout=50)

    low, high = 0, 400
    while low < high - 1:  # the least limit, in steps, under which a bare Python starts
        middle = (low + high) // 2
        starts = runs([*hand_in.program[:3], str(bare), *hand_in.argv(*FROM)], middle).returncode == 0
        low, high = (low, middle) if starts else (middle, high)
    codes = []
    for more in range(3, 30, 2):  # from a little above that, since no two starts need quite the same
        done = runs(hand_in.argv(*FROM), high + more)
        codes.append(done.returncode)
        assert done.returncode < 0 or done.returncode in (0, 75), (more, done.stdout, done.stderr)
        if done.returncode == 75:
            assert done.stdout.startswith(b"4.3.0 ")
    assert codes[-1] == 0 and len(hand_in.new()) == codes.count(0)


@pytest.mark.parametrize(("what", "value"), [(resource.RLIMIT_FSIZE, 1000), (resource.RLIMIT_NOFILE, 4)])
def test_a_limit_of_the_process_keeps_the_mail_with_the_mta(hand_in: HandIn, what: int, value: int) -> None:
    done = subprocess.run(
        hand_in.argv(*FROM), input=LARGE * 100, capture_output=True, env={}, preexec_fn=limited(what, value), timeout=50
    )
    assert (done.returncode, done.stdout[:6]) == (75, b"4.3.0 ")


def test_a_full_disk_keeps_the_mail_with_the_mta(hand_in: HandIn, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        debian.need(f"no file system of one megabyte can be mounted: {mounted.stderr!r}")
    try:
        home = make_route(disk, ROUTE)
        small = HandIn(hand_in.program, disk, home)
        small.refuses(75, "4.3.0 ", *FROM, message=LARGE * 40_000)
        small.accepts()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_package_command_says_later_even_when_its_modules_are_gone(hand_in: HandIn, tmp_path: Path) -> None:
    (tmp_path / "bsmtp_batch").mkdir()
    for name in ("__init__.py", "__main__.py"):
        (tmp_path / "bsmtp_batch" / name).write_text((PACKAGE / name).read_text())
    argv = [sys.executable, "-m", "bsmtp_batch", "deliver", "--spool", str(hand_in.spool), *FROM]
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(argv, input=b"x\n", capture_output=True, env=environment, cwd=tmp_path, timeout=50)
    hand_in.check_refusal(done.returncode, done.stdout, 75, "4.3.0 ")


def test_the_package_command_answers_the_same_way(hand_in: HandIn) -> None:
    argv = [sys.executable, "-m", "bsmtp_batch", "deliver", "--spool", str(hand_in.spool)]
    done = subprocess.run([*argv, "-f", "a@b", "nowhere.example", "c@d"], input=b"x\n", capture_output=True, timeout=50)
    hand_in.check_refusal(done.returncode, done.stdout, 75, "4.3.0 ")
    assert subprocess.run([*argv, *FROM], input=b"x\n", capture_output=True, timeout=50).returncode == 0
    assert len(hand_in.new()) == 1
