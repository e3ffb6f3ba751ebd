from __future__ import annotations

import struct

import pytest

from bsmtp_batch.receive.rules import Opening

VERSION = struct.pack("<I", 32)
STRINGS = b"\x0bxxh64 md5 x"
LONG_STRINGS = b"\x81\x00" + b"x" * 256
NONE = b"\0\0\0\0"
RULE = struct.pack("<I", 13) + b". /etc/passwd"


def frame(data: bytes, tag: int = 7) -> bytes:
    return struct.pack("<I", tag << 24 | len(data)) + data


INNOCENT = (
    (False, VERSION + frame(NONE)),
    (False, VERSION + frame(NONE + b"what comes behind") + frame(RULE)),
    (True, VERSION + STRINGS + frame(NONE)),
    (True, VERSION + LONG_STRINGS + frame(NONE)),
    (True, VERSION + b"\0" + frame(b"", 49) + frame(NONE[:1]) + frame(NONE[1:])),
)
GUILTY = (
    (False, VERSION + frame(RULE)),
    (True, VERSION + STRINGS + frame(RULE)),
    (True, VERSION + STRINGS + frame(RULE[:2]) + frame(RULE[2:])),
    (True, VERSION + STRINGS + frame(b"", 49) + frame(RULE)),
    (False, VERSION + frame(struct.pack("<i", -1))),
    (False, VERSION + frame(b"\0\0\0\x01")),
    (False, struct.pack("<I", 30) + RULE),
    (False, struct.pack("<I", 29) + NONE + RULE),
    (False, struct.pack("<i", -1) + frame(NONE)),
)


@pytest.mark.parametrize(("strings", "said"), INNOCENT)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_an_rsync_without_rules_says_passes_whole(strings: bool, said: bytes, step: int) -> None:
    opening = Opening(strings=strings)
    chunks = [said[at : at + step] for at in range(0, len(said), step)]

    passed = [chunk if opening.over else opening.feed(chunk) for chunk in chunks]

    assert opening.over
    assert b"".join(passed) == said


@pytest.mark.parametrize(("strings", "said"), GUILTY)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_of_a_rule_no_octet_passes(strings: bool, said: bytes, step: int) -> None:
    opening, passed = Opening(strings=strings), b""

    with pytest.raises(ValueError, match=r"rules|version"):
        for at in range(0, len(said), step):
            passed += opening.feed(said[at : at + step])

    assert not opening.over
    assert said.startswith(passed)
    assert len(passed) <= len(VERSION + STRINGS)


@pytest.mark.parametrize("said", [VERSION + frame(b"", 49) * 20_000, VERSION + frame(bytes(1 << 20), 49)])
def test_a_beginning_without_end_is_not_kept(said: bytes) -> None:
    opening = Opening(strings=False)

    with pytest.raises(ValueError, match="does not end"):
        for at in range(0, len(said), 1000):
            opening.feed(said[at : at + 1000])
