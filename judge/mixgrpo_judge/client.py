"""A judge behind an OpenAI-compatible address: vLLM, SGLang, llama.cpp, Ollama, LM Studio."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpx

from . import transport
from .answers import Answer, NoAnswer, request_body, shortened, without_alternatives
from .cache import AnswerCache, key_of
from .endpoints import Endpoint, EndpointError, default_file, read_endpoints
from .pictures import jpeg
from .waiting import run

CHECK_SECONDS = 10.0


class Question(Protocol):
    """What is asked; read by attribute.

    Attributes:
        text: after the pictures.
        images: ``[H, W, 3]`` in 0..1, arrays or tensors on the CPU.
        max_tokens: of the answer.
        alternatives: of the first token, wanted with their log-probs; 0 for none.
    """

    text: str
    images: Sequence[Any]
    max_tokens: int
    alternatives: int


def open_chat(name: str, file: str | Path = "", cache: str | Path = "") -> "OpenAIChat":
    """The judge of endpoint ``name`` in ``file`` (default: `default_file`), its answers kept in the file ``cache``.

    Raises:
        EndpointError: no such file or name, or an entry that is not right.
    """
    endpoints = read_endpoints(file)
    if name not in endpoints:
        known = ", ".join(endpoints) or "none"
        raise EndpointError(f"no endpoint {name!r} in {file or default_file()}, which has: {known}")
    return OpenAIChat(endpoints[name], AnswerCache(cache))


class OpenAIChat:
    """Asks one endpoint, ``concurrency`` questions at a time, the same question once."""

    def __init__(self, endpoint: Endpoint, cache: AnswerCache | None = None) -> None:
        self.endpoint = endpoint
        self._cache = AnswerCache() if cache is None else cache
        self._model = endpoint.model
        self._offers_log_probs = True  # until the server refuses to

    def __repr__(self) -> str:
        return f"OpenAIChat({self.identity})"

    @property
    def identity(self) -> str:
        """Model and place, without the key."""
        return f"{self._model or 'the model'} at {self.endpoint.base}"

    def check(self) -> None:
        """See that the server is there and has the model.

        Raises:
            ConnectionError: nothing answers, or not as expected; one sentence.
            EndpointError: the key is wrong, or the model is not offered; names those that are.
        """
        self._model = run(self._offered_model())

    def ask(self, questions: Sequence[Question], cancelled: Callable[[], None] | None = None) -> list[Answer]:
        """The answers in the order of the questions. What fails has a ``problem``.

        ``cancelled`` is called while answers are awaited; what it raises ends the waiting and every request at once, as
        do interrupts. Answers that have come by then are remembered.
        """
        if not self._model:
            try:
                self.check()
            except (ConnectionError, EndpointError) as error:
                return [Answer("", problem=str(error))] * len(questions)
        bodies = self._bodies(questions)
        keys = [key_of(body) if isinstance(body, dict) else "" for body in bodies]
        known = {key: answer for key in set(keys) if (answer := self._cache.find(key)) is not None}
        missing = {
            key: body for key, body in zip(keys, bodies, strict=True) if isinstance(body, dict) and key not in known
        }
        found: dict[str, Answer] = {}
        try:
            if missing:
                run(self._answer_all(missing, found), cancelled)
        finally:
            self._cache.add({key: answer for key, answer in found.items() if _whole(answer, missing[key])})
        answers = {**known, **found}
        return [body if isinstance(body, Answer) else answers[key] for key, body in zip(keys, bodies, strict=True)]

    def _bodies(self, questions: Sequence[Question]) -> list[dict[str, Any] | Answer]:
        """A request per question, or why there is none."""
        files = self._files(questions)
        alternatives = self._offers_log_probs
        bodies: list[dict[str, Any] | Answer] = []
        for question in questions:
            pictures = [files[id(image)] for image in question.images]
            broken = next((picture for picture in pictures if isinstance(picture, str)), "")
            bodies.append(
                Answer("", problem=f"a picture cannot be sent: {broken}")
                if broken
                else request_body(
                    self.endpoint,
                    self._model,
                    question.text,
                    pictures,
                    question.max_tokens,
                    question.alternatives if alternatives else 0,
                )
            )
        return bodies

    def _files(self, questions: Sequence[Question]) -> dict[int, bytes | str]:
        """The JPEG file of every picture by its object, or why there is none: made once, several at a time."""
        images = {id(image): image for question in questions for image in question.images}

        def made(image: Any) -> bytes | str:
            try:
                return jpeg(image, self.endpoint.longest_side, self.endpoint.quality)
            except (ValueError, TypeError) as error:
                return str(error)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return dict(zip(images, pool.map(made, images.values()), strict=True))

    async def _answer_all(self, bodies: Mapping[str, dict[str, Any]], found: dict[str, Answer]) -> None:
        """Put the answer of every body into ``found`` as it comes."""
        free, health = asyncio.Semaphore(self.endpoint.concurrency), transport.Health()
        async with transport.client(self.endpoint) as http:

            async def one(key: str, body: dict[str, Any]) -> None:
                async with free:
                    found[key] = await self._answer(http, body, health)

            await asyncio.gather(*(one(key, body) for key, body in bodies.items()))

    async def _answer(self, http: httpx.AsyncClient, body: dict[str, Any], health: transport.Health) -> Answer:
        try:
            if "logprobs" in body and not self._offers_log_probs:
                body = without_alternatives(body)
            try:
                return await transport.answer(http, self.endpoint, body, health)
            except transport.Refused as refused:
                if "logprobs" not in body or refused.status not in (400, 404, 422, 501):
                    raise
                answer = await transport.answer(http, self.endpoint, without_alternatives(body), health)
                self._offers_log_probs = False  # it was them
                return answer
        except transport.Refused as refused:
            return Answer("", problem=refused.words)
        except Exception as error:  # one question costs itself, never the others
            return Answer("", problem=transport.hidden(f"{type(error).__name__}: {error}", self.endpoint))

    async def _offered_model(self) -> str:
        """The name to ask for."""
        endpoint = self.endpoint
        url = f"{endpoint.base}/v1/models"
        try:
            async with transport.client(endpoint) as http:
                response = await transport.exchange(http, "GET", url, CHECK_SECONDS)
        except NoAnswer as error:
            raise ConnectionError(f"{endpoint.base} is no judge that can be asked: {error}") from None
        except (asyncio.TimeoutError, httpx.HTTPError) as error:
            raise ConnectionError(
                f"nothing answers at {endpoint.base} ({type(error).__name__}): start the server, or correct url of "
                f"endpoint {endpoint.name!r} in the file of endpoints"
            ) from None
        if response.status in (401, 403):
            raise EndpointError(transport.refusal(response, endpoint))
        if response.status == 404 and endpoint.model:  # it has no list
            return endpoint.model
        if response.status != 200:
            raise ConnectionError(
                f"{endpoint.base} is no judge that can be asked: {transport.refusal(response, endpoint)}"
            )
        try:
            offered = [str(entry["id"]) for entry in json.loads(response.content)["data"]]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ConnectionError(
                f"expected an OpenAI-compatible server at {endpoint.base}, found "
                f"{shortened(transport.without_key(response.content, endpoint))}: correct url of endpoint "
                f"{endpoint.name!r}"
            ) from error
        return _chosen(endpoint, offered)


def _chosen(endpoint: Endpoint, offered: Sequence[str]) -> str:
    if endpoint.model in offered or f"{endpoint.model}:latest" in offered:
        return endpoint.model
    if not endpoint.model and len(offered) == 1:
        return offered[0]
    wanted = f"model {endpoint.model!r}" if endpoint.model else "one model, or its name in the file of endpoints,"
    raise EndpointError(
        f"expected {wanted} at {endpoint.base} (endpoint {endpoint.name!r}), which offers: {_listed(offered)}"
    )


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return (", ".join(names[:most]) + (", ..." if len(names) > most else "")) or "none"


def _whole(answer: Answer, body: Mapping[str, Any]) -> bool:
    """Worth remembering: no problem, and with log-probs where they were wanted."""
    return not answer.problem and (bool(answer.first) or "logprobs" not in body)
