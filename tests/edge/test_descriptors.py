"""A daemon with many lines is not to run out of descriptors before it runs out of places."""

from __future__ import annotations

import resource

import pytest

from bsmtp_batch.edge.descriptors import make_room


@pytest.fixture
def limits():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_there_is_room_for_as_many_as_the_system_lets_us_have(limits):
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    assert make_room(512) == 512
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (512, hard)
    assert make_room(300) == 512, "never fewer"
    if hard != resource.RLIM_INFINITY:
        assert make_room(hard + 1) == hard
