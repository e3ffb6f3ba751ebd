"""One pass over a batch: parse.py FILE find|frames|prove prints seconds of the processor and by the clock.

``find`` looks for every end of a message with one ``mmap.find`` each and does nothing with them; ``frames`` is
framing and envelopes, as an import reads them; ``prove`` is the strict reader without a digest: that and everything the
grammar asks of a text.
"""

from __future__ import annotations

import mmap
import sys
import time

from bsmtp_batch.batch.events import Message, Severity
from bsmtp_batch.batch.file import CHUNK, BatchFile
from bsmtp_batch.batch.reader import Reader

path, what = sys.argv[1:]
with open(path, "rb") as file:
    wall, cpu = time.perf_counter(), time.process_time()
    count = 0
    if what == "find":
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(b"\r\n.\r\n")
            while at >= 0:
                count += 1
                at = data.find(b"\r\n.\r\n", at + 5)
    elif what == "frames":
        count = sum(1 for _ in BatchFile(file).frames())
    else:
        reader = Reader(Severity.STRICT)
        while chunk := file.read(CHUNK):
            count += sum(isinstance(event, Message) for event in reader.feed(chunk))
        count += len(reader.close())
    print(count, time.process_time() - cpu, time.perf_counter() - wall)
