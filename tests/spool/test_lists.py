from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsmtp_batch.spool.lists import Intent, Member

ONE = Intent(
    name="example.org.00000001.20261122T053300Z.hub.bsmtp",
    route="example.org",
    sequence=1,
    size=400,
    sha256="ab" * 32,
    manifest="cd" * 32,
    members=(Member("0" * 40 + "." + "1" * 64, 1, 2, 300),),
)

counts = st.integers(0, 1 << 60)


@given(
    st.builds(
        Intent, members=st.tuples(st.builds(Member, st.text(), counts, counts, counts)), sequence=counts, size=counts
    )
)
def test_a_list_comes_back_as_it_was(intent):
    assert Intent.from_bytes(intent.to_bytes()) == intent


@given(st.binary() | st.builds(lambda n: ONE.to_bytes()[:n], st.integers(0, len(ONE.to_bytes()) - 2)))
def test_anything_else_is_refused_with_a_sentence(data):
    with pytest.raises(ValueError):
        Intent.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"sequence": "1"},
        {"sequence": -1},
        {"sequence": True},
        {"members": [["x"]]},
        {"members": [["x", 1, 1, "1"]]},
        {"members": 7},
        {"extra": 1},
        {"name": None},
    ],
)
def test_a_list_with_a_wrong_value_is_refused(change):
    fields = json.loads(ONE.to_bytes()) | change

    with pytest.raises(ValueError):
        Intent.from_bytes(json.dumps(fields).encode())
