"""A real ComfyUI as a process, with folders of its own: the fixtures of the server tests and of the browser tests.

A ``conftest.py`` takes them with ``from running_host import client, host, start_host``.
"""

import sys

import pytest
from comfy_client import Client
from comfyui_host.process import Host, base_folder

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def start_host(request, tmp_path_factory):
    """A function that starts a ComfyUI of one's own: ``start_host()``, or ``start_host(base)`` on kept folders.

    For tests that kill or restart it. It takes 15 to 40 s; all others share ``host``.
    """
    running = []

    def start(base=None, comfyui=None):
        base = base or base_folder(tmp_path_factory.mktemp("host"))
        comfyui = comfyui or request.config.getoption("--comfyui")
        running.append(Host(comfyui, base, python=sys.executable, environment=ONE_THREAD).start())
        return running[-1]

    yield start
    for host in running:
        host.stop()


@pytest.fixture(scope="session")
def host(start_host):
    """The ComfyUI that the tests share: ``host.address``, ``host.base`` (its input, output ...), ``host.log``."""
    return start_host()


@pytest.fixture
def client(host):
    """A connection of its own to the shared ComfyUI."""
    with Client(host.address) as client:
        yield client
