"""Which servers take the mail of a domain (RFC 5321 section 5.1, RFC 7505), best first, with their addresses."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bsmtp_batch.edge import sockets

if TYPE_CHECKING:
    from dns.resolver import Resolver

LIFETIME = 20.0
"""Seconds for one question, all name servers together."""
MOST = 20
"""Servers of one domain that are looked at."""

_NAME = re.compile(r"(?!.{254})[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}))*")


class NoExchanger(Exception):
    """There is no server to send to, or none is known now; holds a sentence."""


@dataclass(frozen=True)
class Exchanger:
    """A server: its name, its addresses in the order to try them, and why there are none."""

    name: str
    addresses: tuple[str, ...]
    problem: str = ""


class Names(Protocol):
    """Who is asked about names."""

    def exchangers(self, domain: str) -> list[tuple[int, str]]:
        """The MX records of ``domain``: preference and name, which is ``""`` in a null MX; none when there is none.

        Raises :class:`NoExchanger` when there is no such domain, or no answer.
        """

    def addresses(self, host: str) -> list[str]:
        """The addresses of ``host``, those to try first in front. Raises ``OSError``."""

    def ours(self, address: str) -> bool:
        """Whether that is an address of this machine."""


class Dns:
    """The name servers of the system for MX records, and the system itself (``hosts`` included) for addresses."""

    def __init__(self, resolver: Callable[[], Resolver] | None = None) -> None:
        self._resolver = resolver

    def exchangers(self, domain: str) -> list[tuple[int, str]]:
        """See :class:`Names`."""
        from dns import exception, resolver

        try:
            asked = self._resolver() if self._resolver else resolver.Resolver()
            answer = asked.resolve(f"{domain}.", "MX", lifetime=LIFETIME, search=False)
            return [(record.preference, record.exchange.to_text(omit_final_dot=True).strip(".")) for record in answer]
        except resolver.NoAnswer:
            return []
        except resolver.NXDOMAIN as error:
            raise NoExchanger(
                f"DNS has no domain {domain}; a server that is only known here is written in brackets"
            ) from error
        except exception.DNSException as error:
            raise NoExchanger(f"DNS does not say now which servers take mail for {domain}: {error}") from error

    def addresses(self, host: str) -> list[str]:
        """See :class:`Names`."""
        return sockets.addresses_of(host, 25)

    def ours(self, address: str) -> bool:
        """See :class:`Names`."""
        return sockets.is_ours(address)


def exchangers(
    domain: str, names: Names, *, node: str, shuffle: Callable[[list[tuple[int, str]]], None] = random.shuffle
) -> list[Exchanger]:
    """The servers of ``domain``, by preference, equals in random order (``shuffle``).

    Where this machine (``node``) is one of them, those it is a fall-back for are left: mail that went to the others, or
    to itself, would come back. Raises :class:`NoExchanger`.
    """
    found = names.exchangers(domain)
    if found and not any(name for _, name in found):
        raise NoExchanger(f"{domain} says in DNS that it takes no mail (a null MX, RFC 7505)")
    named = [(preference, name) for preference, name in found if _NAME.fullmatch(name)]
    if found and not named:
        raise NoExchanger(f"the MX records of {domain} name no host")
    shuffle(named)
    chosen: list[tuple[int, Exchanger]] = []
    for preference, name in sorted(named, key=lambda entry: entry[0])[:MOST] or [(0, domain)]:
        one = exchanger(name, names)
        if name.lower() == node.lower() or any(names.ours(address) for address in one.addresses):
            chosen = [(better, other) for better, other in chosen if better < preference]
            break
        chosen.append((preference, one))
    if not chosen:
        raise NoExchanger(
            f"the best server for {domain} by DNS is this machine; the customer's own is written in brackets"
        )
    return [one for _, one in chosen]


def exchanger(host: str, names: Names) -> Exchanger:
    """``host`` with its addresses."""
    try:
        return Exchanger(host, tuple(names.addresses(host)))
    except OSError as error:
        return Exchanger(host, (), f"its address is not known: {error.strerror or error}")
    except UnicodeError:
        return Exchanger(host, (), "it cannot be the name of a host: each part has 1 to 63 characters")
