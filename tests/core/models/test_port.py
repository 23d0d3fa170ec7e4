"""The toy and the demo model do what the core counts on."""

from collections.abc import Callable

import pytest
from port_duties import *  # noqa: F403 (the duties, one test each)
from toy import ToyModel

from mixgrpo_core.models.families.demo import load_demo

MODELS: list[Callable] = [ToyModel, lambda: load_demo(rank=2), lambda: load_demo(rank=2, guidance=2.0)]


@pytest.fixture(params=MODELS, ids=["toy", "demo", "guided"])
def model(request):
    return request.param()
