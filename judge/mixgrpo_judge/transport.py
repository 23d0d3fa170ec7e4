"""One request, and the tries that it takes.

    try n (0, 1, ...)   waits timeout (1 + n / 2) seconds for its answer
    between two tries   the time that the server names, at most a minute; else min(10, backoff 2^n), a little scattered

Tried again: no connection, a late or broken answer, 408, 425, 429 and 5xx. Everything else is a mistake in the request
or the endpoint, which more tries do not mend.
"""

import asyncio
import email.utils
import functools
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from .answers import Answer, NoAnswer, read_answer, shortened
from .endpoints import Endpoint

T = TypeVar("T")
BUSY = frozenset({408, 425, 429})
LONGEST_WAIT = 60.0
LARGEST = 8 << 20
"""Bytes of a response: an answer of thousands of tokens, with alternatives for each, is a tenth of it."""


@dataclass(frozen=True)
class Response:
    """What a server sent."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Refused(Exception):
    """The server does not take the request: a status, and words about it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


@dataclass
class Health:
    """What the requests of one batch know of each other."""

    answered: bool = False
    given_up: bool = False

    @property
    def worth_trying_again(self) -> bool:
        """Not when one of them has tried all it could, and none has succeeded: the server is gone."""
        return self.answered or not self.given_up


@dataclass(frozen=True)
class Asked(Generic[T]):
    """A request by POST: JSON or bytes, and how its answer is read, which raises ``NoAnswer``."""

    url: str
    body: dict[str, Any] | bytes
    read: Callable[[bytes], T]


async def answer(http: httpx.AsyncClient, endpoint: Endpoint, body: dict[str, Any], health: Health) -> Answer:
    """The answer to ``body``, or the problem of the last try.

    Raises:
        Refused: by a status that more tries do not mend.
    """
    found = await tried(http, endpoint, Asked(completions(endpoint), body, read_answer), health)
    return found if isinstance(found, Answer) else Answer("", problem=found)


async def tried(http: httpx.AsyncClient, endpoint: Endpoint, asked: Asked[T], health: Health) -> T | str:
    """What was asked for, or the problem of the last try.

    Raises:
        Refused: by a status that more tries do not mend.
    """
    attempt = 0
    while True:
        wait = min(10.0, endpoint.backoff * 2**attempt) * random.uniform(0.75, 1.25)
        seconds = endpoint.timeout * (1 + attempt / 2)
        try:
            response = await exchange(http, "POST", asked.url, seconds, asked.body)
            if response.status == 200:
                found = asked.read(without_key(response.content, endpoint))
                health.answered = True
                return found
            problem = refusal(response, endpoint)
            if response.status < 500 and response.status not in BUSY:
                raise Refused(response.status, problem)
            wait = asked_wait(response.headers.get("retry-after"), time.time, wait)
        except NoAnswer as error:
            problem = str(error)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            problem = f"no answer within {seconds:g} s"
        except httpx.HTTPError as error:
            problem = f"{endpoint.base} cannot be reached ({type(error).__name__})"
        if attempt >= endpoint.retries or not health.worth_trying_again:
            health.given_up = True
            return problem
        await asyncio.sleep(wait)
        attempt += 1


async def exchange(
    http: httpx.AsyncClient, method: str, url: str, seconds: float, body: dict[str, Any] | bytes | None = None
) -> Response:
    """What comes back within ``seconds``.

    Raises:
        NoAnswer: more than ``LARGEST`` bytes.
        asyncio.TimeoutError, httpx.HTTPError: it is late, or does not come.
    """

    async def response_to() -> Response:
        received = bytearray()
        json, content = (None, body) if isinstance(body, bytes) else (body, None)
        async with http.stream(method, url, json=json, content=content, timeout=seconds) as response:
            async for piece in response.aiter_bytes():
                received += piece
                if len(received) > LARGEST:
                    raise NoAnswer(f"expected a chat completion, found more than {LARGEST >> 20} MiB")
            return Response(response.status_code, response.headers, bytes(received))

    return await asyncio.wait_for(response_to(), seconds)


def completions(endpoint: Endpoint) -> str:
    return f"{endpoint.base}/v1/chat/completions"


def client(endpoint: Endpoint) -> httpx.AsyncClient:
    """Proxies of the environment are for other machines. Redirections are not followed: keys and pictures stay."""
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
        limits=httpx.Limits(max_connections=endpoint.concurrency),
        verify=_certificates(),
        trust_env=not endpoint.local,
        follow_redirects=False,
    )


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes longer than many a request."""
    return httpx.create_ssl_context()


def refusal(response: Response, endpoint: Endpoint) -> str:
    """A sentence about a response that is no answer. It never quotes what is about a key."""
    status = response.status
    if status in (401, 403):
        what = "the key of endpoint {} is not accepted" if endpoint.key else "endpoint {} wants a key, and has none"
        return f"{what.format(repr(endpoint.name))} (status {status}): correct key or key_file in the file of endpoints"
    if status == 429:
        return "the server is busy (status 429)"
    if 300 <= status < 400:
        return f"the server points elsewhere (status {status}): correct url in the file of endpoints"
    return f"the server answers with status {status}: {shortened(without_key(response.content, endpoint))}"


def without_key(content: bytes, endpoint: Endpoint) -> bytes:
    """A response without the key, which a server may repeat; before it is shortened, which may leave half a key."""
    return content.replace(endpoint.key.encode(), b"***") if endpoint.key else content


def hidden(text: str, endpoint: Endpoint) -> str:
    """``text`` without the key."""
    return text.replace(endpoint.key, "***") if endpoint.key else text


def asked_wait(header: str | None, now: Callable[[], float], otherwise: float) -> float:
    """Seconds that a Retry-After header asks for, in seconds or as a date, at most ``LONGEST_WAIT``."""
    if not header:
        return otherwise
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now()
        except (ValueError, TypeError):
            return otherwise
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else otherwise
