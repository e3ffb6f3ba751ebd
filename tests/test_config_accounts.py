"""The sections of accounts: who may collect whose mail must not depend on a slip of the pen."""

from __future__ import annotations

import pytest

from bsmtp_batch.config import load
from bsmtp_batch.errors import Setting


def loaded(tmp_path, text):
    path = tmp_path / "bsmtp-batch.toml"
    path.write_text(text, encoding="utf-8")
    return load(str(path))


def test_what_an_account_may_do_by_itself_is_little(tmp_path):
    found = loaded(tmp_path, "[account.aurora]\n")

    assert found.node.secrets == "/etc/bsmtp-batch/secrets"
    aurora = found.accounts["aurora"]
    assert (aurora.routes, aurora.plain, aurora.cram_md5, aurora.certificate) == ([], True, False, "")


def test_fingerprints_are_read_as_programs_print_them(tmp_path):
    fingerprint = ":".join(["AB"] * 32)

    found = loaded(
        tmp_path,
        f'[account.a]\ncertificate = "SHA256:{fingerprint}"\n[account.b]\ncertificate = "{"cd" * 32}"\n'
        '[account.c]\ncertificate = "Site.Example"\n',
    )

    assert [one.certificate for one in found.accounts.values()] == ["ab" * 32, "cd" * 32, "site.example"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("[account.Aurora]\n", "1:1", "lower-case letters"),
        ('[account.aurora]\ncertificate = "sha256:abcd"\n', "2:1", "64 hex digits"),
        ('[account.aurora]\ncertificate = "CN=aurora, O=x"\n', "2:1", "host name"),
        ('[account.aurora]\ncram_md5 = "yes"\n', "2:1", "true or false"),
        ('[account.aurora]\nroute = ["a.example"]\n', "2:1", "did you mean routes?"),
        ('[node]\nsecrets = ""\n', "2:1", "whole path"),
        ('[node]\nsecrets = "secrets"\n', "2:1", "whole path"),
        (
            '[account.a]\ncertificate = "x.example"\n[account.b]\ncertificate = "X.example"\n',
            "4:1",
            "stands for the account a already",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path, text, place, words):
    with pytest.raises(Setting) as caught:
        loaded(tmp_path, text)

    assert f"bsmtp-batch.toml:{place}: " in str(caught.value)
    assert words in str(caught.value)


def test_the_settings_become_what_the_verifier_needs(tmp_path):
    from bsmtp_batch.accounts.verify import Policy
    from bsmtp_batch.cli.logins import verifier_of

    found = verifier_of(loaded(tmp_path, f'[node]\nsecrets = "{tmp_path}/secrets"\n[account.a]\nplain = false\n'))

    assert found._policies == {"a": Policy(plain=False)}
    assert found.password("a", b"x") is False
