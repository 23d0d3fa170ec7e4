"""``mixgrpo``: the headless front. Each command is a loop over the same core that the nodes call."""

from .dispatch import main

__all__ = ["main"]
