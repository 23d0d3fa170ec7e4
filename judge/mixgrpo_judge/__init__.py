"""Asks vision-language judges behind OpenAI-compatible addresses that the owner of this machine wrote into a file."""

from .answers import Answer
from .cache import AnswerCache
from .client import OpenAIChat, open_chat
from .endpoints import Endpoint, EndpointError, default_file, read_endpoints

__all__ = [
    "Answer",
    "AnswerCache",
    "Endpoint",
    "EndpointError",
    "OpenAIChat",
    "default_file",
    "open_chat",
    "read_endpoints",
]
