from __future__ import annotations

import os
import pwd

from bsmtp_batch.edge.user import user_name


def test_a_user_has_a_name_or_at_least_a_number(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert user_name() == "the user root"

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert user_name() == "the user with number 0"
