"""The wire format: chat completions, as requests and as answers."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .endpoints import Endpoint


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: of the answer.
        first: log-probs of the first token's alternatives; empty where the server offers none.
        problem: why there is no answer; empty when there is one.
    """

    text: str
    first: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


class NoAnswer(Exception):
    """Something came back that is no answer."""


def request_body(
    endpoint: Endpoint, model: str, text: str, files: Sequence[bytes], max_tokens: int, alternatives: int
) -> dict[str, Any]:
    """The body of a request: JPEG files first, as data URLs, then the question."""
    pictures = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"}}
        for file in files
    ]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}],
        "max_tokens": max_tokens,
        "temperature": endpoint.temperature,
        **endpoint.extra,
    }
    return {**body, "logprobs": True, "top_logprobs": alternatives} if alternatives else body


def without_alternatives(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("logprobs", "top_logprobs")}


def read_answer(content: bytes) -> Answer:
    """The answer in the body of a response.

    Raises:
        NoAnswer: it is no JSON, no chat completion, or says nothing.
    """
    try:
        choice = json.loads(content)["choices"][0]
        text = choice["message"].get("content") or ""
        first = _first_token(choice.get("logprobs"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NoAnswer(f"expected a chat completion, found {shortened(content)}") from error
    if not isinstance(text, str):
        raise NoAnswer(f"expected text in a chat completion, found a {type(text).__name__}")
    if not text.strip() and not first:
        why = choice.get("finish_reason")
        raise NoAnswer("the answer is empty" + (f" (it ended by {why!r})" if isinstance(why, str) else ""))
    return Answer(text, first)


def shortened(content: bytes, length: int = 80) -> str:
    """The beginning of a response on one line."""
    line = " ".join(content[: 4 * length].decode("utf-8", "replace").split())
    return repr(line if len(line) <= length else line[:length] + "...")


def _first_token(log_probs: Any) -> dict[str, float]:
    """Alternatives of the first token; those that read the same are joined. Empty for any other form."""
    content = log_probs.get("content") if isinstance(log_probs, dict) else None
    joined: dict[str, float] = {}
    for entry in content[0].get("top_logprobs") or [] if content else []:
        token, log_prob = str(entry["token"]), float(entry["logprob"])
        if not log_prob <= 1e-3:  # no log-probability
            raise ValueError(log_prob)
        joined[token] = _log_add(joined[token], log_prob) if token in joined else log_prob
    return joined


def _log_add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
