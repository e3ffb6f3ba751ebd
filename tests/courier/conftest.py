"""What the couriers share: the suite's assertions, and one sshd per test worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("courier.conformance")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A real sshd on loopback; its log stands below a test that failed."""
    from support.sshd import Sshd

    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _log_of_sshd(request: pytest.FixtureRequest) -> Iterator[None]:
    if "sshd" not in request.fixturenames:
        yield
        return
    server = request.getfixturevalue("sshd")
    before = len(server.log())
    yield
    print("sshd said:\n" + server.log()[before:][-6000:])  # pytest shows it when the test has failed
