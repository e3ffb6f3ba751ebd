"""Back-off and the bound on work around a claim: the one way in which a server settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bsmtp_batch.accounts.backoff import Backoff
from bsmtp_batch.accounts.work import Busy, Work
from bsmtp_batch.wire.sasl.server import ServerLogin
from bsmtp_batch.wire.sasl.values import Accepted, Challenge, Claim, Refused


class Gate:
    """``sleep`` waits for so many seconds."""

    def __init__(
        self, backoff: Backoff, work: Work, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._backoff = backoff
        self._work = work
        self._sleep = sleep

    async def settle(self, login: ServerLogin, claim: Claim, address: str) -> Challenge | Accepted | Refused:
        """The verdict on ``claim``, which came from ``address``; 454 without a look at it where the back-off forbids
        that or too many wait. A connection that goes away meanwhile has guessed wrong."""
        with self._backoff.attempt(address, claim.account) as attempt:
            if attempt.wait is None:
                return login.too_soon()
            if attempt.wait:
                await self._sleep(attempt.wait)
            try:
                step = await self._work.run(claim.settle, known=attempt.known) if claim.costly else claim.settle()
            except Busy:
                attempt.unseen()
                return login.too_soon()
            if not isinstance(step, Refused):
                attempt.right()
            elif not step.guess:
                attempt.unseen()
            return step
