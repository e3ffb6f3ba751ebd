"""What every test starts from: signals as a shell hands them out, whoever started the run.

A run started by ``nohup``, cron or in the background of a script inherits SIGINT and SIGHUP as ignored, and so would
every process that a test starts and wants to stop.
"""

from __future__ import annotations

import signal

for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
