"""The suite is no test module itself, so its assertions have to be asked for."""

import pytest

pytest.register_assert_rewrite("courier.conformance")
