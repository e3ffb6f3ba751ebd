"""MX records as a name server sends them: what is not an answer must not be taken for "there are none"."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from bsmtp_batch.edge import mx
from bsmtp_batch.edge.mx import Dns, NoExchanger, exchangers


class NameServer:
    """Answers MX questions from ``zone``: records as text, a response code, or ``"silence"``."""

    def __init__(self, **zone):
        self.zone = {name.replace("_", "."): found for name, found in zone.items()}

    def __enter__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            wire, peer = self._socket.recvfrom(4096)
            if not wire:
                return
            question = dns.message.from_wire(wire)
            found = self.zone.get(question.question[0].name.to_text(omit_final_dot=True), dns.rcode.NXDOMAIN)
            if found == "silence":
                continue
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.RA
            if isinstance(found, list):
                if found:
                    answer.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "MX", *found))
            else:
                answer.set_rcode(found)
            self._socket.sendto(answer.to_wire(), peer)

    def names(self):
        def resolver():
            made = dns.resolver.Resolver(configure=False)
            made.nameservers = ["127.0.0.1"]
            made.port = self._socket.getsockname()[1]
            return made

        return Dns(resolver)


def test_records_come_as_preference_and_name():
    with NameServer(site_example=["10 mail.site.example.", "20 backup.other.example."]) as server:
        found = server.names().exchangers("site.example")

    assert sorted(found) == [(10, "mail.site.example"), (20, "backup.other.example")]


def test_a_null_mx_is_an_empty_name():
    with NameServer(site_example=["0 ."]) as server:
        assert server.names().exchangers("site.example") == [(0, "")]
        with pytest.raises(NoExchanger, match="null MX"):
            exchangers("site.example", server.names(), node="hub.example")


def test_no_record_is_no_error():
    with NameServer(site_example=[]) as server:
        assert server.names().exchangers("site.example") == []


def test_a_domain_that_does_not_exist_is_not_its_own_server():
    with NameServer() as server, pytest.raises(NoExchanger, match="DNS has no domain"):
        server.names().exchangers("site.example")


@pytest.mark.parametrize("failure", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, "silence"])
def test_a_name_server_in_trouble_does_not_make_a_domain_without_mx(failure, monkeypatch):
    """Mail would go to the domain's web server."""
    monkeypatch.setattr(mx, "LIFETIME", 0.3)
    with NameServer(site_example=failure) as server, pytest.raises(NoExchanger, match="does not say now"):
        server.names().exchangers("site.example")


def test_a_machine_without_name_servers_says_so():
    def none():
        raise dns.resolver.NoResolverConfiguration

    with pytest.raises(NoExchanger, match="does not say now"):
        Dns(none).exchangers("site.example")


def test_own_addresses_are_known_and_others_are_not():
    names = Dns()

    assert names.ours("127.0.0.1")
    assert not names.ours("192.0.2.1")
    assert not names.ours("2001:db8::1")


def test_what_the_hosts_file_knows_has_an_address():
    assert "127.0.0.1" in Dns().addresses("localhost")
