"""A real ComfyUI as a process, with folders of its own: the fixtures of the server tests and of the browser tests.

A plugin and no part of a ``conftest.py``: the tests of both folders, run together, then share one ComfyUI. A
``conftest.py`` takes it with ``running_host.use(config)``.
"""

import sys

import pytest
from comfy_client import Client
from comfyui_host.process import Host, base_folder

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def use(config):
    if not config.pluginmanager.has_plugin(__name__):
        config.pluginmanager.register(sys.modules[__name__], __name__)


@pytest.fixture(scope="session")
def start_host(request, tmp_path_factory):
    """A function that starts another ComfyUI than ``host``: another version, or with ``flags``. It takes 15 to 40 s."""
    running = []

    def start(comfyui, *flags):
        base = base_folder(tmp_path_factory.mktemp("host"))
        arguments = ("--cpu", *flags)
        running.append(Host(comfyui, base, python=sys.executable, arguments=arguments, environment=ONE_THREAD).start())
        return running[-1]

    yield start
    for host in running:
        host.stop()


@pytest.fixture(scope="session")
def host(start_host, request):
    """The ComfyUI that all tests share: ``host.address``, ``host.base`` (its input, output ...), ``host.log``.

    A test that kills it starts it again, on the same folders.
    """
    return start_host(request.config.getoption("--comfyui"))


@pytest.fixture
def client(host):
    """A connection of its own to the shared ComfyUI."""
    with Client(host.address) as client:
        yield client
