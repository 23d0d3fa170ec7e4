"""Asks vision-language judges behind OpenAI-compatible addresses that the owner of this machine wrote into a file.

The client is loaded when it is first asked for: reading the file of endpoints needs no HTTP library.
"""

from typing import TYPE_CHECKING, Any

from .answers import Answer
from .cache import AnswerCache
from .endpoints import Endpoint, EndpointError, default_file, read_endpoints

if TYPE_CHECKING:
    from .client import OpenAIChat, open_chat
    from .rewards_client import RewardElsewhere, open_reward

__all__ = [
    "Answer",
    "AnswerCache",
    "Endpoint",
    "EndpointError",
    "OpenAIChat",
    "RewardElsewhere",
    "default_file",
    "open_chat",
    "open_reward",
    "read_endpoints",
]


def __getattr__(name: str) -> Any:
    if name not in ("OpenAIChat", "open_chat", "RewardElsewhere", "open_reward"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import client, rewards_client

    return getattr(client if name in ("OpenAIChat", "open_chat") else rewards_client, name)
