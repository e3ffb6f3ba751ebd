"""No open relay through a batch: who is taken, in every spelling that could hide another host."""

from __future__ import annotations

import pytest

from bsmtp_batch.importer.policy import Policy

LOCAL = Policy(["site.example", "xn--bcher-kva.example", "bücher.example"])


@pytest.mark.parametrize(
    "path",
    [
        b"user@site.example",
        b"USER@SITE.Example",
        b"postmaster",
        b"PostMaster",
        b'"two words"@site.example',
        b"a+tag@site.example",
        "x@bücher.example".encode(),
        "x@BÜCHER.example".encode(),
        b"x@xn--bcher-kva.example",
        b"|/bin/sh@site.example",
    ],
)
def test_our_own_recipients_are_taken(path):
    assert LOCAL.refusal(path) == ""


@pytest.mark.parametrize(
    "path",
    [
        b"user@other.example",
        b"user@sub.site.example",
        b"user@site.example.other",
        b"user@xsite.example",
        b"user",
        b"postmaster@other.example",
        b"user%other.example@site.example",
        b"other.example!user@site.example",
        b'"user@other.example"@site.example',
        b'"@other.example:user@x"@site.example',
        b"user@[127.0.0.1]",
        b"x@strasse.example",
        b"x@\xc3\xbc.example",
    ],
)
def test_foreign_and_forwarding_recipients_are_not(path):
    assert LOCAL.refusal(path)[:2] == "5."


def test_without_domains_everybody_is_taken():
    assert Policy().open
    assert Policy().refusal(b"user@anywhere.example") == ""


@pytest.mark.parametrize("domain", ["", "straße.example", "two words", "a@b.example", "x/../y", "*"])
def test_what_is_no_domain_is_told(domain):
    with pytest.raises(ValueError, match="not a domain"):
        Policy([domain])
