import pytest

pytest.register_assert_rewrite("port_duties")
