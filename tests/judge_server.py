"""A judge behind an address: a real HTTP server on this machine that answers as it is told, well or badly.

with JudgeServer(lambda asked: says(f"Final Score: {5 * asked.brightness[0]}")) as server:
    server.url, server.asked, server.most_in_flight
"""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Asked:
    """A request: its body, its headers, the question, the pictures, and how many came before it."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    text: str
    pictures: tuple[Image.Image, ...]
    number: int

    @property
    def brightness(self) -> list[float]:
        """Of every picture, 0 to 1."""
        return [float(np.asarray(picture).mean()) / 255 for picture in self.pictures]


@dataclass(frozen=True)
class Reply:
    """What goes back, after ``delay`` seconds. ``cut`` bytes of the promised body are missing; all of them: silence."""

    content: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int = 0


def says(text: str | None, first: Mapping[str, float] | None = None, delay: float = 0.0) -> Reply:
    """A chat completion; ``first`` are log-probs of its first token's alternatives."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if first is not None:
        alternatives = [{"token": token, "logprob": log_prob} for token, log_prob in first.items()]
        choice["logprobs"] = {"content": [{"token": "?", "logprob": 0.0, "top_logprobs": alternatives}]}
    return Reply(json.dumps({"choices": [choice]}).encode(), delay=delay)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of 5, as by default, the sixth waits a second


class JudgeServer:
    """Serves ``/v1/models`` and ``/v1/chat/completions`` on a free port of 127.0.0.1 inside its ``with``."""

    def __init__(
        self,
        reply: Callable[[Asked], Reply],
        models: Sequence[str] | Reply = ("judge",),
        key: str = "",
    ) -> None:
        self.reply, self.models, self.key = reply, models, key
        self.asked: list[Asked] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "JudgeServer":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nothing answers any more."""
        self._server.shutdown()
        self._server.server_close()


def _handler(judge: JudgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every answer over a kept connection is 40 ms late

        def log_message(self, *words: object) -> None:
            """Silent."""

        def do_GET(self) -> None:
            if self.path != "/v1/models":
                return self._send(Reply(b"{}", status=404))
            if not self._has_the_key():
                return None
            if isinstance(judge.models, Reply):
                return self._send(judge.models)
            return self._send(Reply(json.dumps({"data": [{"id": name} for name in judge.models]}).encode()))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self._has_the_key():
                return
            *pictures, question = body["messages"][0]["content"]
            files = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in pictures]
            with judge.lock:
                judge.in_flight += 1
                judge.most_in_flight = max(judge.most_in_flight, judge.in_flight)
                asked = Asked(
                    body,
                    dict(self.headers),
                    question["text"],
                    tuple(Image.open(io.BytesIO(file)) for file in files),
                    len(judge.asked),
                )
                judge.asked.append(asked)
            try:
                reply = judge.reply(asked)
                time.sleep(reply.delay)
            finally:
                with judge.lock:  # before the reply leaves: the next request may come with it
                    judge.in_flight -= 1
            self._send(reply)

        def _has_the_key(self) -> bool:
            right = not judge.key or self.headers.get("Authorization") == f"Bearer {judge.key}"
            if not right:
                self._send(Reply(f"wrong key {self.headers.get('Authorization')}".encode(), status=401))
            return right

        def _send(self, reply: Reply) -> None:
            self.close_connection = bool(reply.cut)
            if reply.cut and reply.cut >= len(reply.content):
                return
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content[: len(reply.content) - reply.cut])
            except OSError:  # whoever asked has gone
                self.close_connection = True

    return Handler
