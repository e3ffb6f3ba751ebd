from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.courier.address import Address, address_of
from bsmtp_batch.errors import Usage


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("scp://bsmtp@hub.example/", Address("scp", "bsmtp", "hub.example", 0, "/")),
        ("rsync://hub.example:2222", Address("rsync", "", "hub.example", 2222, "/")),
        ("rsync://a.b-c_d@[2001:db8::1]:22/", Address("rsync", "a.b-c_d", "2001:db8::1", 22, "/")),
        ("rsync://u@192.0.2.1/srv/mail.d/site_1/", Address("rsync", "u", "192.0.2.1", 0, "/srv/mail.d/site_1/")),
    ],
)
def test_an_address_is_taken_apart(url, found):
    assert address_of(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "scp://-oProxyCommand=touch/",
        "scp://u@-oProxyCommand=x/",
        "scp://-u@hub/",
        "scp://u@hub/../etc",
        "scp://u@hub/a b",
        "scp://u@hub/;ls",
        "scp://u@hub/*",
        "scp://u@hub:0/",
        "scp://u@hub:65536/",
        "scp://u@hub:22x/",
        "scp://u@hub:\uff11/",
        "scp://u@hub\n/",
        "scp://u@hub/\n",
        "scp://u@hub$(id)/",
        "scp://u@`id`/",
        "scp://u%41@hub/",
        "scp://u:secret@hub/",
        "scp://u@a@hub/",
        "scp:/u@hub/",
        "scp://",
        "scp:///",
        "scp://u@/",
        "scp://hub./",
        "SCP://hub/",
    ],
)
def test_what_ssh_could_take_for_something_else_never_reaches_it(url):
    with pytest.raises(Usage, match="not the address of a far end"):
        address_of(url)


@given(st.text(alphabet=st.sampled_from("abz09.-_@:/[]%$;`' \n\\"), max_size=30))
def test_whatever_is_let_through_begins_no_option_and_holds_no_character_of_a_shell(rest):
    try:
        found = address_of(f"scp://{rest}")
    except Usage:
        return
    for part in (found.user, found.host, found.path.lstrip("/")):
        assert not part.startswith("-") or part is found.path.lstrip("/")
        assert not set(part) & set("%$;`' \n\\@[]")
    assert address_of(str(found)) == found
