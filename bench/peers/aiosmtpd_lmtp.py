"""The peer of the LMTP intake: aiosmtpd, which appends what comes to one file per domain and syncs before it answers.

    python aiosmtpd_lmtp.py SOCKET DIRECTORY group|each

``each`` syncs for every message; ``group`` writes and syncs once for all messages of a turn of the event loop.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiosmtpd.lmtp import LMTP

SOCKET, DIRECTORY, MODE = sys.argv[1:4]


class Keeper:
    """Takes every message; replies for each recipient once it is durable."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - the name aiosmtpd calls
        content = envelope.original_content
        wire = content.replace(b"\r\n.", b"\r\n..")
        head = [f"MAIL FROM:<{envelope.mail_from}>\r\n", *(f"RCPT TO:<{r}>\r\n" for r in envelope.rcpt_tos), "DATA\r\n"]
        record = "".join(head).encode() + (b"." if wire.startswith(b".") else b"") + wire + b".\r\n"
        domain = envelope.rcpt_tos[0].rpartition("@")[2]
        if MODE == "each":
            fd = self.file(domain)
            os.write(fd, record)
            os.fsync(fd)
        else:
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            self.waiting.append((domain, record, done))
            if len(self.waiting) == 1:
                loop.call_soon(self.commit)
            await done
        return "\r\n".join("250 2.0.0 kept" for _ in envelope.rcpt_tos)

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        records: dict[str, list[bytes]] = {}
        for domain, record, _ in waiting:
            records.setdefault(domain, []).append(record)
        for domain, parts in records.items():
            os.write(self.file(domain), b"".join(parts))
            os.fsync(self.file(domain))
        for _, _, done in waiting:
            done.set_result(None)

    def file(self, domain: str) -> int:
        if domain not in self.files:
            path = os.path.join(DIRECTORY, domain)
            self.files[domain] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return self.files[domain]


async def main() -> None:
    keeper = Keeper()
    loop = asyncio.get_running_loop()
    options = {"enable_SMTPUTF8": True, "data_size_limit": 0}
    server = await loop.create_unix_server(lambda: LMTP(keeper, hostname="peer", **options), SOCKET, backlog=200)
    os.chmod(SOCKET, 0o666)
    await server.serve_forever()


asyncio.run(main())
