"""Asks a reward of another process, which `rewards_server` serves."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from . import transport
from .answers import NoAnswer, shortened
from .batches import NoBatch, Scored, packed, read_answer
from .client import CHECK_SECONDS
from .endpoints import Endpoint, EndpointError, default_file, read_endpoints
from .waiting import run


def open_reward(name: str, reward: str, file: str | Path = "") -> "RewardElsewhere":
    """The reward ``reward`` at endpoint ``name`` in ``file`` (default: `default_file`).

    Raises:
        EndpointError: no such file or name, or an entry that is not right.
    """
    endpoints = read_endpoints(file)
    if name not in endpoints:
        known = ", ".join(endpoints) or "none"
        raise EndpointError(f"no endpoint {name!r} in {file or default_file()}, which has: {known}")
    return RewardElsewhere(endpoints[name], reward)


class RewardElsewhere:
    """One reward of one endpoint."""

    def __init__(self, endpoint: Endpoint, reward: str) -> None:
        self.endpoint, self.reward = endpoint, reward

    @property
    def identity(self) -> str:
        """Name and place, without the key."""
        return f"{self.reward} at {self.endpoint.base}"

    def check(self) -> str:
        """See that the server is there and has the reward; how the server spells it.

        Raises:
            ConnectionError: nothing answers, or not as expected; one sentence.
            EndpointError: the key is wrong, or there is no such reward; names those that are.
        """
        return run(self._offered())

    def score(self, pictures: Any, prompts: Sequence[str], cancelled: Callable[[], None] | None = None) -> Scored:
        """The scores of ``pictures [G, H, W, 3]`` in 0..1, in their order. What fails has a ``problem``.

        ``cancelled`` is called while the answer is awaited; what it raises ends the waiting.
        """
        body = packed(pictures, prompts)
        try:
            return run(self._scored(body, len(prompts)), cancelled)
        except transport.Refused as refused:
            return Scored((None,) * len(prompts), refused.words)

    async def _scored(self, body: bytes, count: int) -> Scored:
        url = f"{self.endpoint.base}/v1/rewards/{quote(self.reward, safe='')}"

        def read(content: bytes) -> Scored:
            try:
                return read_answer(content, count)
            except NoBatch as error:
                raise NoAnswer(str(error)) from error

        async with transport.client(self.endpoint) as http:
            found = await transport.tried(http, self.endpoint, transport.Asked(url, body, read), transport.Health())
        return found if isinstance(found, Scored) else Scored((None,) * count, found)

    async def _offered(self) -> str:
        endpoint = self.endpoint
        try:
            async with transport.client(endpoint) as http:
                response = await transport.exchange(http, "GET", f"{endpoint.base}/v1/rewards", CHECK_SECONDS)
        except (NoAnswer, asyncio.TimeoutError, httpx.HTTPError) as error:
            raise ConnectionError(
                f"nothing answers at {endpoint.base} ({type(error).__name__}): start mixgrpo-judge serve-rewards "
                f"there, or correct url of endpoint {endpoint.name!r} in the file of endpoints"
            ) from None
        if response.status in (401, 403):
            raise EndpointError(transport.refusal(response, endpoint))
        try:
            offered = {str(name): str(call) for name, call in json.loads(response.content)["rewards"].items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ConnectionError(
                f"expected a server of rewards at {endpoint.base}, found {shortened(response.content)}: correct url of "
                f"endpoint {endpoint.name!r}"
            ) from error
        if self.reward not in offered:
            raise EndpointError(
                f"expected a reward {self.reward!r} at {endpoint.base} (endpoint {endpoint.name!r}), which has: "
                f"{', '.join(offered) or 'none'}"
            )
        return offered[self.reward]
