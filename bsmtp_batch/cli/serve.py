"""``bsmtp-batch serve``: the daemon of a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bsmtp_batch.cli import common

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from bsmtp_batch.cli.serving import Serving
    from bsmtp_batch.cli.taking import Taking
    from bsmtp_batch.config import Settings
    from bsmtp_batch.intake.server import Intake
    from bsmtp_batch.server.schedule import Schedule

CODES = {
    0: "it was told to end (SIGTERM, SIGINT)",
    75: "a port or socket cannot be had just now",
    78: "the configuration cannot be used: nothing to listen on, a certificate that cannot be read",
}

DESCRIPTORS = 8
"""For each session: its connection, the ledger with its two logs, a batch with its locks."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "serve",
        help="Answer on the ports of [serve]: the MTA hands mail in by LMTP; customers log in, hand their mail in and"
        " have the line turned round for what waits for them (ODMR), or ask for a push (ETRN).",
        epilog=common.epilog("bsmtp-batch serve", CODES),
    )(command)


def command(*, dry_run: common.DryRun = False, config: common.Config = None, spool: common.Spool = None) -> int:
    """Serve until told to end."""
    from bsmtp_batch.errors import Setting

    settings = common.settings(config, spool)
    serve = settings.serve
    scheduled = [name for name, peer in settings.peers.items() if peer.schedule]
    for_customers = bool(serve.odmr or serve.odmr_tls or scheduled)
    if not for_customers and not serve.lmtp:
        raise Setting(
            "[serve] names nothing to listen on, and no peer has a schedule",
            safe="Nothing was started",
            next='set lmtp = ["unix:/run/bsmtp-batch/lmtp"] for the MTA, or odmr = ["*:366"] for customers, in [serve]',
        )
    if dry_run:
        for where in (*serve.lmtp, *serve.odmr, *(f"{one}, TLS from the start" for one in serve.odmr_tls)):
            typer.echo(f"would listen on {where}")
        for name in scheduled:
            typer.echo(f"would push to {name} by its schedule")
        return 0
    if not for_customers:
        return _take(settings)
    return _run(settings)


def _take(settings: Settings) -> int:
    """Only mail from the MTA: none of what customers need is loaded."""
    import signal

    from bsmtp_batch.cli.taking import Taking
    from bsmtp_batch.edge.descriptors import make_room
    from bsmtp_batch.edge.log import tell
    from bsmtp_batch.intake.server import DESCRIPTORS as OF_INTAKE

    make_room(OF_INTAKE)
    taking = Taking(settings)
    try:
        common.become_owner(settings.node.spool)
        intake = taking.intake()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: intake.end())
        tell(f"serve: listening on {taking.where}")
        intake.run()
    finally:
        taking.close()
    return 0


def _run(settings: Settings) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from bsmtp_batch.cli.serving import Serving
    from bsmtp_batch.cli.taking import Taking
    from bsmtp_batch.edge.descriptors import make_room
    from bsmtp_batch.intake.server import DESCRIPTORS as OF_INTAKE
    from bsmtp_batch.server.daemon import SESSIONS

    make_room(DESCRIPTORS * (SESSIONS + 100) + (OF_INTAKE if settings.serve.lmtp else 0))
    with ThreadPoolExecutor(16, "answer") as workers, ThreadPoolExecutor(SESSIONS, "send") as movers:
        # Ports below 1024 and keys that only root reads are taken before root is given up.
        taking = Taking(settings)
        try:
            serving = Serving(settings, movers)
            common.become_owner(settings.node.spool)
            return _both(taking, serving, workers, movers)
        finally:
            taking.close()


def _both(taking: Taking, serving: Serving, workers: Executor, movers: Executor) -> int:
    import asyncio
    import signal
    import threading

    from bsmtp_batch.server.daemon import Daemon

    intake = taking.intake() if taking.where else None
    failed: list[BaseException] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            serving.end()
            if intake is not None:
                intake.end()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        thread = threading.Thread(target=_beside, args=(intake, failed, lambda: loop.call_soon_threadsafe(end)))
        thread.start()
        pushing = loop.create_task(_push(serving.schedule(), workers, serving.tell))
        daemon = Daemon(serving.ports(), workers=workers, movers=movers, tell=serving.tell)
        where = ", ".join(filter(None, (taking.where, serving.where)))
        await daemon.run(stop, ready=lambda: serving.tell(f"serve: listening on {where}"))
        pushing.cancel()
        await loop.run_in_executor(workers, thread.join)

    asyncio.run(serve())
    return 70 if failed else 0


def _beside(intake: Intake | None, failed: list[BaseException], end: Callable[[], object]) -> None:
    """Take mail in a thread of its own; what goes wrong there ends the whole daemon, and is found in ``failed``."""
    try:
        if intake is not None:
            intake.run()
    except BaseException as error:
        failed.append(error)
        end()
        raise


async def _push(schedule: Schedule, workers: Executor, tell: Callable[[str], None]) -> None:
    """Look every second whether a push is due."""
    import asyncio

    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(workers, schedule.look)
        except Exception as error:  # noqa: BLE001 - no thread, no memory: the next look may find some, and must come
            tell(f"serve: it cannot be seen whether a push is due: {error!r}")
        await asyncio.sleep(1.0)
