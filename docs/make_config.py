"""Write docs/CONFIG.md from the settings model, so that a setting and its description are one thing.

``python docs/make_config.py`` writes the page; tests/test_docs.py fails when it is not what this would write.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bsmtp_batch import config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

HERE = Path(__file__).parent

SECTIONS: list[tuple[str, str, type[BaseModel]]] = [
    ("[node]", "node", config.Node),
    ('[route."example.org"]', "route", config.Route),
    ("[peer.NAME]", "peer", config.Peer),
    ("[account.NAME]", "account", config.Account),
    ("[import]", "import", config.Import),
    ("[serve]", "serve", config.Serve),
]

INTRODUCTION = """\
# Settings

<!-- Written by docs/make_config.py from bsmtp_batch/config.py. Change the descriptions there. -->

No command needs a settings file: `--spool DIR` is enough, and every setting has a default. Where there is a file, it is
the one named with `--config FILE`, else the one in `$BSMTP_BATCH_CONFIG`, else `/etc/bsmtp-batch/bsmtp-batch.toml`.
`--spool` and `$BSMTP_BATCH_SPOOL` come before `[node] spool`.

The file is [TOML](https://toml.io). Times are seconds, or a text such as `"90s"`, `"15m"`, `"2h"`, `"14d"`, `"1w"`.
Sizes are octets, or a text such as `"500k"`, `"50M"`, `"1G"` (powers of 1000). A key that is not on this page is an
error. All errors are reported at once, each with its line and column; until they are mended, no command changes
anything (exit code 78).

`deliver` reads none of this. What it has to know, `route add` writes into the route's `limits` file. After a change to
a `[route]` section run `bsmtp-batch route add ROUTE` again.

```toml
[node]
name = "hub.example"
spool = "/var/spool/bsmtp-batch"

[route."aurora.example"]
seal_age = "15m"
max_size = "20M"

[peer.stick]
url = "dir:/media/stick"

[peer.hub]
url = "rsync://mail@hub.example/"
identity = "/etc/bsmtp-batch/id_ed25519"
known_hosts = "/etc/bsmtp-batch/known_hosts"
compression = "xz"
window = "22:00-06:00"
max_bytes = "200M"

[account.aurora]
routes = ["aurora.example"]

[import]
to = "smtp://127.0.0.1:25"
local_domains = ["hub.example"]
```
"""


def pages() -> dict[Path, str]:
    """The page: path and text."""
    return {HERE / "CONFIG.md": INTRODUCTION + "".join(f"\n{part}" for part in _sections())}


def _sections() -> Iterator[str]:
    for title, _, model in SECTIONS:
        about = " ".join((model.__doc__ or "").split())
        about = re.sub(r"^``.*?``: ", "", about)
        yield (
            f"## `{title}`\n\n{about[:1].upper()}{about[1:]}\n\n| setting | default | what it does |\n|---|---|---|\n"
            + "".join(
                f"| `{name}` | {_default(field)} | {_text(field)} |\n" for name, field in model.model_fields.items()
            )
        )


def _text(field: FieldInfo) -> str:
    words = (field.description or "").replace("|", "\\|")
    return words[:1].upper() + words[1:]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in ("", [], None):
        return "see there" if "default:" in (field.description or "") else "none"
    return f"`{_value(field.default, str(field.annotation), field)}`"


def _value(default: object, annotation: str, field: FieldInfo) -> str:
    kinds = " ".join(repr(m) for m in field.metadata) + annotation
    if isinstance(default, int) and not isinstance(default, bool):
        if "function seconds" in kinds:
            return _scaled(default, [("d", 86400), ("h", 3600), ("m", 60)], "s")
        if "function octets" in kinds and default:
            return _scaled(default, [("G", 10**9), ("M", 10**6), ("k", 1000)], "")
    return json.dumps(default)


def _scaled(number: int, units: list[tuple[str, int]], smallest: str) -> str:
    """``number`` in the largest of the ``units`` that divides it, as it may be written in the file."""
    for unit, size in units:
        if number % size == 0:
            return json.dumps(f"{number // size}{unit}")
    return json.dumps(f"{number}{smallest}") if smallest else str(number)


def main() -> None:
    """Write the page."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
