"""Two hundred messages such as mail servers see them, the same ones in every run.

All text is made here. What differs from message to message is what programs that carry mail have broken before: dots at
the start of lines, 8-bit text in several character sets, lines longer than SMTP allows, missing ends, addresses with
blanks, dashes and letters from outside ASCII, many recipients, no sender.
"""

from __future__ import annotations

import base64
import random
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 200
DOMAIN = "aurora.example"
WORDS = (  # noqa: SIM905 - thirty-six quoted words would be no list anybody reads
    "anchor ballast cargo draught engine ferry galley harbour island jetty keel lantern mooring nautical outport pilot "
    "quay rudder sextant tanker upwind vessel wharf yard zenith manifest invoice crate weather report crew bunker order"
).split()
FOREIGN = {
    "iso-8859-1": "Grüße aus dem Hafen, Übergabe à bientôt, mañana señor, blåbærsyltetøy",
    "iso-8859-15": "Das kostet 20 € für die Fähre, žluťoučký nein, œuvre",
    "utf-8": "Ζεύς καλημέρα мир вам 船は港に入る שלום مرحبا 🚢 fin",
    "koi8-r": "Корабль выходит в море завтра утром, погода хорошая",
    "shift_jis": "船は明日の朝に出港します。天気は良い。",
    "windows-1252": "“quoted” — dashed — text… with ™ and €",
    "gb18030": "明天早上船出海。天气很好。",
}


@dataclass(frozen=True)
class Mail:
    """One message: its envelope (addresses without brackets, "" the null sender) and its content with LF line ends."""

    number: int
    kind: str
    sender: str
    rcpts: tuple[str, ...]
    content: bytes

    @property
    def canonical(self) -> bytes:
        """The content as it is on the wire before dots are doubled: CRLF throughout, the last line ended."""
        whole = self.content if not self.content or self.content.endswith(b"\n") else self.content + b"\n"
        return whole.replace(b"\n", b"\r\n")

    @property
    def utf8(self) -> bool:
        """Whether an address needs SMTPUTF8."""
        return not "".join([self.sender, *self.rcpts]).isascii()


def corpus() -> list[Mail]:
    """The two hundred messages. The first recipient of each is no other message's."""
    mails = []
    for number in range(COUNT):
        dice = random.Random(f"bsmtp-batch {number}")
        kind, make = KINDS[number % len(KINDS)]
        mails.append(Mail(number, kind, _sender(number, dice), _rcpts(number, dice), make(number, dice)))
    return mails


def _sender(number: int, dice: random.Random) -> str:
    forms = [
        f"{dice.choice(WORDS)}.{dice.choice(WORDS)}@world.example",
        f"{dice.choice(WORDS)}+list-{number}=bounce@lists.world.example",
        "",
        f'"{dice.choice(WORDS)} {dice.choice(WORDS)}"@world.example',
        f"MAILER-DAEMON@{dice.choice(WORDS)}.world.example",
        f"-{dice.choice(WORDS)}@world.example",
        f"größe.{number}@bücher.world.example",
        f"SRS0=Ab1=XY=world.example={dice.choice(WORDS)}@Forward.World.Example",
        f"a{{b}}!#$%&'*/=?^_`|~-{number}@world.example",
        f"{'l' * 60}@{'.'.join(['d' * 40] * 4)}.world.example",
    ]
    return forms[number // 2 % len(forms)]


def _rcpts(number: int, dice: random.Random) -> tuple[str, ...]:
    first = [
        f"{dice.choice(WORDS)}{number}",
        f"{dice.choice(WORDS)}+{dice.choice(WORDS)}{number}",
        f'"{dice.choice(WORDS)} {number}"',
        f"-{dice.choice(WORDS)}{number}",
        f"käpt'n{number}",
        f'"two..dots{number}"',
        f'"quo\\"te\\\\{number}"',
        f"UPPER.Case{number}",
    ][number // 3 % 8]
    more = {0: 39, 7: 11, 13: 3}.get(number % 20, 0)
    return (f"{first}@{DOMAIN}", *(f"r{number}.{i}@{DOMAIN}" for i in range(more)))


def _text(dice: random.Random, words: int, width: int = 72) -> str:
    return textwrap.fill(" ".join(dice.choices(WORDS, k=words)), width)


def _head(number: int, dice: random.Random, *extra: str) -> str:
    lines = [
        f"From: {dice.choice(WORDS).title()} {dice.choice(WORDS).title()} <{dice.choice(WORDS)}@world.example>",
        f"To: Crew <crew@{DOMAIN}>",
        f"Subject: {dice.choice(WORDS)} {dice.choice(WORDS)} {number}",
        f"Date: Thu, {number % 28 + 1:02} Oct 2026 {number % 24:02}:17:{number % 60:02} +0200",
        f"Message-ID: <{number}.{dice.randrange(10**12)}@world.example>",
        *extra,
    ]
    return "\n".join(lines) + "\n"


def _simple(number: int, dice: random.Random, body: str, *extra: str) -> bytes:
    return f"{_head(number, dice, *extra)}\n{body}".encode()


def _plain(number: int, dice: random.Random) -> bytes:
    return _simple(number, dice, "\n\n".join(_text(dice, 40) for _ in range(dice.randrange(1, 30))) + "\n")


def _dots(number: int, dice: random.Random) -> bytes:
    lines = [".", "..", "...", ". ", ".\t", ".hidden", "..twice", " .", ".MAIL FROM:<a@b>", ".QUIT", "", "end."]
    dice.shuffle(lines)
    return _simple(number, dice, "\n".join(lines) + "\n.\n")


def _charset(number: int, dice: random.Random) -> bytes:
    name, text = dice.choice(list(FOREIGN.items()))
    head = _head(
        number,
        dice,
        "MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={name}",
        "Content-Transfer-Encoding: 8bit",
    )
    return head.encode() + b"\n" + b"\n".join(text.encode(name, "replace") for _ in range(12)) + b"\n"


def _every_octet(number: int, dice: random.Random) -> bytes:
    octets = bytes(o for o in range(1, 256) if o not in b"\r\n")
    return _simple(number, dice, "every octet but NUL, CR and LF:\n") + octets + b"\n" + octets[::-1] + b"\n"


def _long_lines(number: int, dice: random.Random) -> bytes:
    widths = (997, 998, 999, 1000, 2000, 2047, 2048, 2049, 5000, dice.randrange(1000, 9000))
    return _simple(number, dice, "\n".join(("." + "x" * w)[:w] for w in widths) + "\n")


def _no_last_newline(number: int, dice: random.Random) -> bytes:
    return _simple(number, dice, _text(dice, 30) + "\n" + dice.choice([".", "..", "end", "tab\t", "blank "]))


def _empty_body(number: int, dice: random.Random) -> bytes:
    return _head(number, dice).encode() + (b"\n" if number % 2 else b"\n\n\n\n")


def _headers_only(number: int, dice: random.Random) -> bytes:
    return _head(number, dice, "X-Nothing: follows").encode()


def _multipart(number: int, dice: random.Random) -> bytes:
    mark = f"=_{dice.randrange(10**20):020}"
    head = _head(number, dice, "MIME-Version: 1.0", f'Content-Type: multipart/alternative;\n\tboundary="{mark}"')
    parts = [
        f"--{mark}\nContent-Type: text/plain; charset=utf-8\n\n{_text(dice, 60)}\n",
        f"--{mark}\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
        f'<p class=3D"x">{_text(dice, 60, 70).replace(chr(10), "=" + chr(10))}</p>\n.=20\n',
        f"--{mark}--\n",
    ]
    return f"{head}\nThis is a message in several parts.\n{''.join(parts)}".encode()


def _attachment(number: int, dice: random.Random, size: int | None = None) -> bytes:
    mark = f"----part{dice.randrange(10**16)}"
    data = base64.encodebytes(dice.randbytes(size or dice.randrange(1_000, 250_000))).decode()
    head = _head(number, dice, "MIME-Version: 1.0", f"Content-Type: multipart/mixed; boundary={mark}")
    return (
        f"{head}\n--{mark}\nContent-Type: text/plain\n\nSee the file.\n--{mark}\n"
        f"Content-Type: application/pdf; name=plan{number}.pdf\nContent-Transfer-Encoding: base64\n\n{data}--{mark}--\n"
    ).encode()


def _large(number: int, dice: random.Random) -> bytes:
    return _attachment(number, dice, 2_200_000 if number < 20 else 40_000)


def _blanks(number: int, dice: random.Random) -> bytes:
    lines = [
        "trailing blanks   ",
        "trailing tab\t",
        "\t\tindented",
        "   ",
        "\t",
        "form\ffeed",
        "vertical\vtab",
        "bell\a",
        "\x7f\x1b[1m",
    ]
    dice.shuffle(lines)
    return _simple(number, dice, "\n".join(lines) + "\n\n\n \n")


def _flowed(number: int, dice: random.Random) -> bytes:
    body = "\n".join(line + " " for line in _text(dice, 80, 66).splitlines())
    head = ("MIME-Version: 1.0", "Content-Type: text/plain; charset=us-ascii; format=flowed; delsp=yes")
    end = f"\n\n> quoted \n>> deeper\n From the start\n-- \n{dice.choice(WORDS)}\n"
    return _simple(number, dice, body + end, *head)


def _mailbox_lines(number: int, dice: random.Random) -> bytes:
    body = "From here on\n>From there\n\nFrom sailor@world.example Thu Oct  1 10:00:00 2026\nTo: no header\n\nFrom \n"
    return _simple(number, dice, body)


def _commands(number: int, dice: random.Random) -> bytes:
    body = "RSET\nMAIL FROM:<x@world.example>\nRCPT TO:<y@z>\nDATA\nquit\nQUIT\n250 ok\n\x1a\nHELO again\n"
    return _simple(number, dice, body * dice.randrange(1, 4))


def _long_headers(number: int, dice: random.Random) -> bytes:
    references = "References: " + "\n ".join(f"<{dice.randrange(10**18)}@world.example>" for _ in range(400))
    return _simple(number, dice, "short\n", references, "X-One-Line: " + "h" * 980, "X-Wide: " + "w" * 4000)


def _signed(number: int, dice: random.Random) -> bytes:
    signature = "\n\t".join(textwrap.wrap(base64.b64encode(dice.randbytes(256)).decode(), 70))
    dkim = (
        f"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=world.example; s=k{number};\n\th=from:to:subject:date;"
        f" bh={base64.b64encode(dice.randbytes(32)).decode()};\n\tb={signature}"
    )
    trace = (
        f"Received: from a.world.example (a.world.example [192.0.2.{number % 250}])\n"
        f"        by b.world.example with ESMTPS id {dice.randrange(10**9)};\n        Thu, 1 Oct 2026 08:00:00 +0000"
    )
    return f"{trace}\n{dkim}\n".encode() + _simple(number, dice, _text(dice, 200) + "\n-- \nthe yard\n")


def _odd_headers(number: int, dice: random.Random) -> bytes:
    return _simple(
        number, dice, "body\n",
        "x-lower: case", "X-Empty:", "X-Blank: ", "X-Folded:\n and\n\tfolded\n  again", "X-Colon::: three",
        f"Subject: =?utf-8?B?{base64.b64encode(FOREIGN['utf-8'].encode()).decode()}?=", "X-Eight: Grüße",
    )  # fmt: skip


KINDS: list[tuple[str, Callable[[int, random.Random], bytes]]] = [
    ("plain", _plain), ("dots", _dots), ("charset", _charset), ("every octet", _every_octet),
    ("long lines", _long_lines), ("no last newline", _no_last_newline), ("empty body", _empty_body),
    ("headers only", _headers_only), ("multipart", _multipart), ("attachment", _attachment), ("large", _large),
    ("blanks", _blanks), ("flowed", _flowed), ("mailbox lines", _mailbox_lines), ("commands", _commands),
    ("long headers", _long_headers), ("signed", _signed), ("odd headers", _odd_headers),
    ("charset", _charset),
]  # fmt: skip
