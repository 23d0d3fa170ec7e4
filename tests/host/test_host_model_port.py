"""A MODEL of ComfyUI does what the core counts on, plain, with checkpointed blocks and with guidance."""

import pytest
from canvas import loaded, policy
from port_duties import *  # noqa: F403 (the duties, one test each)

HOMES = {"plain": {}, "checkpointed": {"checkpointing": True}, "guided": {"cfg": 2.0}}


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture(params=HOMES)
def model(request, parts):
    with policy(*parts, **HOMES[request.param]) as made:
        made.guidance = made.cfg  # what the duties ask for
        yield made
