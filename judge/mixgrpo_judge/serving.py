"""Rewards served to several runs: ``mixgrpo-judge serve-rewards rewards.toml``.

    listen = "127.0.0.1:8470"
    [rewards]
    aesthetic = "AestheticScore('aesthetic.safetensors')"

The rewards are those of a run file, spelled as there; the Python that serves them has mixgrpo installed. A batch that
was scored is remembered by its contents, so runs that ask the same are answered once.
"""

import json
import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from . import batches
from .endpoints import is_loopback

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)
PATH = "/v1/rewards"
IN_MEMORY = 20_000
"""Answers, a few hundred bytes each."""


class ServingError(ValueError):
    """Rewards that cannot be served; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a file says.

    Attributes:
        listen: host and port; port 0 takes a free one.
        key: that has to be sent as bearer token; hosts other than this machine need one.
        rewards: by name, the calls that make them.
    """

    listen: str = "127.0.0.1:8470"
    key: str = field(default="", repr=False)
    rewards: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Raises ``ServingError``."""
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ServingError(f'expected a host and a port such as "127.0.0.1:8470", found listen = {self.listen!r}')
        if not is_loopback(host) and not self.key:
            raise ServingError(f"{host} is heard by other machines: give a key, which the endpoints of runs then send")
        return host, int(port)


def read_settings(path: str | Path) -> Settings:
    """Raises ``ServingError``: no file, no TOML, an unknown entry."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ServingError(f"expected a TOML file of rewards at {path}: {error}") from error
    unknown = values.keys() - {"listen", "key", "rewards"}
    if unknown:
        raise ServingError(f"{path} has an unknown entry {min(unknown)!r}: known are listen, key and [rewards]")
    rewards = values.get("rewards", {})
    if not isinstance(rewards, dict) or not all(isinstance(call, str) for call in rewards.values()):
        raise ServingError(f'expected calls such as [rewards] red = "ShapeReward()" in {path}')
    if not all(isinstance(values.get(name, ""), str) for name in ("listen", "key")):
        raise ServingError(f"expected listen and key of {path} to be text in quotes")
    return Settings(**values)


class Served:
    """Rewards by name, one call at a time; what was scored once is not scored again.

    Attributes:
        calls: how they are spelled.
        scored: batches that a reward was asked about.
    """

    def __init__(self, calls: Mapping[str, str]) -> None:
        """Raises ``ServingError`` for a reward that cannot be made, that remembers, or that needs more than images."""
        from mixgrpo_core.cli.reward_calls import made
        from mixgrpo_core.rewards.port import about

        try:
            self._rewards = made(calls)
        except ValueError as error:
            raise ServingError(str(error)) from error
        for name, reward in self._rewards.items():
            if reward.state_dict():
                raise ServingError(f"{name} remembers, and each run wants a memory of its own: give it to the runs")
            if about(reward).reference:
                raise ServingError(f"{name} compares with a picture that a run has: give it to the runs")
            if not about(reward).held_out:
                raise ServingError(f"{name} asks a person, through the folder of a run: give it to the runs")
        self.calls, self.scored = dict(calls), 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._prepared: set[tuple[str, str]] = set()
        self._turn = threading.Lock()

    def answer(self, name: str, body: bytes) -> bytes:
        """Raises ``NoBatch``."""
        batch, key = batches.unpacked(body), batches.key_of(name, body)
        with self._turn:  # who asks the same at the same time waits, and finds it
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
            found = self._score(name, batch)
            answer = batches.answer(found)
            if not found.problem:
                self._answers[key] = answer
                while len(self._answers) > IN_MEMORY:
                    self._answers.popitem(last=False)
            return answer

    def _score(self, name: str, batch: batches.Batch) -> batches.Scored:
        import torch

        from mixgrpo_core.rewards.port import RewardBatch
        from mixgrpo_core.rewards.scoring import score

        self.scored += 1
        reward = self._rewards[name]
        new = [prompt for prompt in dict.fromkeys(batch.prompts) if (name, prompt) not in self._prepared]
        try:
            if new:
                reward.prepare(new)
                self._prepared.update((name, prompt) for prompt in new)
        except Exception as error:  # what a reward refuses costs this batch and not the server
            return batches.Scored((None,) * len(batch.prompts), f"{type(error).__name__}: {error}")
        asked = RewardBatch(images=torch.from_numpy(batch.pictures), prompts=batch.prompts)
        scores, failures = score({name: reward}, asked)
        valid = scores[name].valid.tolist()
        values = [value if there else None for value, there in zip(scores[name].values.tolist(), valid, strict=True)]
        return batches.Scored(tuple(values), failures[0].reason if failures else "")


class RewardServer(ThreadingHTTPServer):
    """Serves rewards at ``url`` until it is shut down."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, settings: Settings, served: Served) -> None:
        """Raises ``ServingError`` for an address that cannot be had."""
        self.served, self.key = served, settings.key
        try:
            super().__init__(settings.address, _Handler)
        except OSError as error:
            raise ServingError(f"cannot listen at {settings.listen} ({error.strerror}): take another port") from error
        self.url = f"http://{settings.address[0]}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else answers over a kept connection are late

    def log_message(self, *words: Any) -> None:
        log.debug(words[0], *words[1:])

    def do_GET(self) -> None:
        if self._may() and self._found(self.path == PATH):
            self._send(200, json.dumps({"rewards": self.server.served.calls}).encode())

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > batches.LARGEST:
            self.close_connection = True
            return self._send(413, f"expected at most {batches.LARGEST >> 20} MiB".encode())
        body, name = self.rfile.read(int(length)), unquote(self.path.removeprefix(f"{PATH}/"))
        if not self._may() or not self._found(name in self.server.served.calls):
            return None
        try:
            return self._send(200, self.server.served.answer(name, body))
        except batches.NoBatch as error:
            return self._send(400, str(error).encode())

    def _may(self) -> bool:
        key = self.server.key
        allowed = not key or compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {key}".encode())
        if not allowed:
            self._send(401, b"wrong key")
        return allowed

    def _found(self, there: bool) -> bool:
        if not there:
            self._send(404, b"no such reward")
        return there

    def _send(self, status: int, content: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # whoever asked has gone
            self.close_connection = True


def serve(names: Sequence[str]) -> int:
    """``serve-rewards REWARDS.toml``."""
    if len(names) != 1:
        raise ServingError("expected a file of rewards: mixgrpo-judge serve-rewards rewards.toml")
    settings = read_settings(names[0])
    settings.address  # noqa: B018 - what is wrong is said before networks are read
    with RewardServer(settings, Served(settings.rewards)) as server:
        sys.stdout.write(f"{', '.join(server.served.calls)} at {server.url}; Ctrl-C ends it\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write(f"{server.served.scored} batches were scored\n")
    return 0
