"""The live view's server side: what a training run tells the browser, and the commands it takes back."""

from .board import Command, LiveRun
from .preparing import Preparing

__all__ = ["Command", "LiveRun", "Preparing"]
