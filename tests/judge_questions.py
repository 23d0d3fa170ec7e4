"""Questions for judges' clients: grey pictures, whose brightness a server can see."""

import torch
from judge_server import says
from mixgrpo_judge import Endpoint, OpenAIChat

from mixgrpo_core.rewards.judges import Question


def chat(server, cache=None, **settings):
    settings = {"url": server.url, "model": "judge", "backoff": 0.005, **settings}
    return OpenAIChat(Endpoint(name="here", **settings), cache)


def grey(level, side=16):
    return torch.full((side, side, 3), float(level))


def about(levels, text="How bright?", max_tokens=8, alternatives=0):
    return [Question(text, (grey(level),), max_tokens, alternatives) for level in levels]


def brightness(asked):
    return says(f"{asked.brightness[0]:.2f}")
