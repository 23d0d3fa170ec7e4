"""How much the campaigns of ``make test-long`` do: a pytest plugin.

pytest --long=kills --kills=60      the first 60 kills of 200; asked for more later, it goes on from there
"""

DEFAULTS = {"kills": 200, "host-kills": 20, "fuzz": 10_000, "minutes": 30}
"""Kills of a headless run and of a ComfyUI, mutated inputs of all kinds together, minutes of soak."""


def pytest_addoption(parser):
    for name, most in DEFAULTS.items():
        parser.addoption(f"--{name}", type=int, default=most, help=f"of the campaigns of make test-long; {most} is all")
