"""A far end that lies: the forced command of a server nobody should trust. ``python liar.py LIE BATCH``.

``BATCH`` is the path of a sound batch with its manifest beside it, which is offered in some way that is not right.
For the octets it plays the server of ``scp`` itself, and starts the real ``rsync`` with arguments nobody asked for.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

LIE, PATH = sys.argv[1], Path(sys.argv[2])
NAME = PATH.name.encode()
BATCH, MANIFEST = PATH.read_bytes(), Path(f"{PATH}.json").read_bytes()
SHOWN = {
    "name: traversal": b"../../../evil.00000001.20261122T053300Z.hub.bsmtp",
    "name: absolute": b"/tmp/evil",
    "name: option": b"-oProxyCommand=evil",
    "name: dashed": b"-" + NAME,
    "name: colon": b"evil:" + NAME,
    "name: wildcard": b"*.00000001.20261122T053300Z.hub.bsmtp",
    "name: shell": b"$(evil)." + NAME,
    "name: semicolon": NAME + b";evil",
    "name: blank": NAME + b" evil",
    "name: newline": NAME + b"\nevil",
    "name: return": NAME + b"\revil",
    "name: octets": b"\xff\xfe" + NAME,
    "name: long": b"a" * 1500 + b"." + NAME,
    "name: upper": NAME.upper(),
    "name: another": NAME.replace(b".00000001.", b".00000002."),
}


def say(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def listed(name: bytes, manifest: bytes = MANIFEST, signature: bytes = b"0") -> bytes:
    return b"BATCH %s %d %s\n" % (name, len(manifest), signature) + manifest


def converse() -> None:
    """The conversation, told wrongly."""
    if LIE == "greeting":
        say(b"Welcome to this server\nREADY 1\n")
    elif LIE == "version":
        say(b"READY 2\n")
    elif LIE == "endless greeting":
        while True:
            say(b"x" * 65536)
    else:
        say(b"READY 1\n")
    for line in sys.stdin.buffer:
        verb = line.split()[0]
        if verb == b"list":
            offer()
        elif verb == b"pack":
            size = len(BATCH) + {"packed: larger": 10**6, "packed: smaller": -10, "packed: huge": 10**15}.get(LIE, 0)
            name = NAME.replace(b".00000001.", b".00000002.") if LIE == "packed: another" else NAME
            say(b"PACKED %s %d\n" % (name, size))
        elif verb == b"size":
            say(b"SIZE %s 0\n" % NAME)
        elif verb == b"ack":
            Path(f"{PATH}.acknowledged").touch()
            say(b"OK %s\n" % NAME)
        elif verb == b"offer":
            took = line.split()
            sys.stdin.buffer.read(int(took[4]) + int(took[5]))
            told = {
                "receipt: sha256": b"ACK %s %s\n" % (took[1], b"0" * 64),
                "receipt: another": b"ACK %s %s\n" % (NAME, b"0" * 64),
            }
            say(told.get(LIE, b"SEND %s 0\n" % took[1]))
        elif verb == b"sent":
            say(b"ACK %s %s\n" % (line.split()[1], b"1" * 64))
        elif verb == b"quit":
            say(b"BYE\n")
            return


def offer() -> None:
    if LIE == "list: endless":
        number = 0
        while True:
            number += 1
            name = NAME.replace(b".00000001.", b".%08d." % number)
            say(listed(name, MANIFEST.replace(NAME, name).replace(b'"sequence": 1', b'"sequence": %d' % number)))
    elif LIE == "list: twice":
        say(listed(NAME) * 2)
    elif LIE == "list: huge manifest":
        say(b"BATCH %s 99999999999 0\n" % NAME)
    elif LIE == "list: no manifest":
        say(listed(NAME, b"{}"))
    elif LIE == "list: negative":
        say(b"BATCH %s -5 0\n" % NAME)
    elif LIE == "list: endless line":
        while True:
            say(b"BATCH " + b"x" * 65536)
    else:
        say(listed(SHOWN.get(LIE, NAME)))
    say(b"END\n")


def scp() -> None:
    """The far end of ``scp -f``, by the old protocol."""

    def wait() -> None:
        if not os.read(0, 1):
            raise SystemExit(1)

    def file(name: bytes, data: bytes) -> None:
        say(b"C0644 %d %s\n" % (len(data), name))
        wait()
        say(data + b"\0")
        wait()

    wait()
    wrong = bytes(len(BATCH))
    if LIE == "octets: wrong":
        file(NAME, wrong)
    elif LIE == "octets: more":
        file(NAME, BATCH + bytes(3_000_000))
    elif LIE == "octets: fewer":
        file(NAME, BATCH[:-7])
    elif LIE == "octets: none":
        return
    elif LIE == "files: another":
        file(b"evil", wrong)
    elif LIE == "files: above":
        file(b"../evil", wrong)
    elif LIE == "files: absolute":
        file(b"/tmp/evil", wrong)
    elif LIE == "files: more":
        file(NAME, BATCH)
        file(b"evil", wrong)
        file(b"evil2", wrong)
    elif LIE == "files: directory":
        say(b"D0755 0 evil\n")
        wait()
        file(b"evil", wrong)
        say(b"E\n")
        wait()
    elif LIE == "files: link":
        say(b"L0777 9 /etc/evil\n")
        wait()
    elif LIE == "files: message":
        say(b"\1scp: \x1b]0;evil\x07\n")
    elif LIE == "octets: silence":
        say(b"C0644 %d %s\n" % (len(BATCH), NAME))
        wait()
        say(BATCH[:-9])
        wait()
    else:
        file(NAME, BATCH)


def rsync(command: str) -> None:
    """The real ``rsync``, with more and other files than it was asked for."""
    place = PATH.parent / "lies"
    place.mkdir(exist_ok=True)
    right = place / PATH.name
    right.write_bytes(
        {
            "octets: wrong": bytes(len(BATCH)),
            "octets: more": BATCH + bytes(3_000_000),
            "octets: fewer": BATCH[:-7],
        }.get(LIE, BATCH)
    )
    (place / "evil").write_bytes(b"evil")
    (place / "evil.d").mkdir(exist_ok=True)
    (place / "evil.d" / "evil").write_bytes(b"evil")
    if not (place / "link").is_symlink():
        (place / "link").symlink_to("/etc/passwd")
    files = {
        "files: another": ["evil"],
        "files: above": ["../lies/evil"],
        "files: absolute": [str(place / "evil")],
        "files: more": [right.name, "evil", "evil.d/evil"],
        "files: directory": ["evil.d"],
        "files: link": ["link"],
        "octets: none": ["is.not.there"],
    }.get(LIE, [right.name])
    flags = {"files: directory": "-re.LsfxCIvu", "files: link": "-le.LsfxCIvu", "files: above": "-Re.LsfxCIvu"}
    words = command.rpartition(" . ")[0].split()
    words = [flags.get(LIE, w) if re.match("-e", w) else w for w in words]
    os.chdir(place)
    os.environ["PATH"] = os.environ["BSMTP_BATCH_PATH"]
    if LIE == "files: message":
        say(b"\x1b]0;evil\x07 welcome\n")
    os.execvp("rsync", [*words, ".", *files])


if __name__ == "__main__":
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if asked.startswith("scp -t"):
        os.write(1, b"\0")
        os.read(0, 100)
    elif asked.startswith("scp"):
        scp()
    elif asked.startswith("rsync --server --sender"):
        rsync(asked)
    elif asked.startswith("rsync"):
        raise SystemExit(0)
    else:
        converse()
