"""What pages ask of the server. Everything reads, but for commands to a run that is live, and votes.

The host's own answers pass by here, too: see `one_message` and `asked_again`.

GET  /mixgrpo/live                  the runs that are live, and the node that prepares one
GET  /mixgrpo/runs/{run}            settings, reports and plan from the run's folder, and its state
POST /mixgrpo/runs/{run}/command    {"command": "sample" | "save" | "pause" | "stop"}
POST /mixgrpo/runs/{run}/keep       {"iteration": 28}: its LoRA is the run's; null: the last one is
GET  /mixgrpo/runs/{run}/ballots/{ballot}           a group that people vote on, and its votes
POST /mixgrpo/runs/{run}/ballots/{ballot}/votes     {"votes": {"0": 1, "3": null}, "end": "done" | "skipped" | null}
POST /mixgrpo/runs/{run}/taste/wrong    {"image": "000012-003007-3fa4c2d1", "wrong": true}: the taste is wrong about it
POST /mixgrpo/...                   questions that other folders answer: JSON for JSON
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

from ...mixgrpo_core.rewards.people.ballot import Ballot, BallotError, HeardError, State
from ...mixgrpo_core.rewards.people.ballot_box import BallotBox
from ...mixgrpo_core.runs.errors import RunError
from ...mixgrpo_core.runs.metrics import iterations_done
from ..one_message import without_copies
from .board import Command, board
from .events import harmless, host
from .gallery import gallery_of, gallery_payload
from .runs import drawn_plan, find_run, stored
from .tasting import correct
from .voting import VOTES, payload

LARGEST_BODY = 1 << 14
"""Bytes of a command or a vote: a thousand images need less."""
LARGEST_QUESTION = 1 << 17
"""Bytes of the inputs of one node, which hold text that people type."""
FILES = f"/extensions/{Path(__file__).parents[2].name}/"
"""Where the host offers what is in `web/`: under the name of the pack's folder."""
Answer: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""JSON for JSON. ``ValueError``, ``KeyError``, ``TypeError`` and ``AttributeError`` mean that it was no question."""
ENDS = {None: None, "done": State.DONE, "skipped": State.SKIPPED}

_registered: set[int] = set()


def register_routes(questions: Mapping[str, Answer]) -> None:
    """Add the routes to the host's server, once; nothing happens where there is none.

    Args:
        questions: what answers them, by their paths.
    """
    server = host()
    routes = getattr(server, "routes", None)
    if routes is None or id(routes) in _registered:
        return
    _registered.add(id(routes))
    add_routes(routes)
    for path, answer in questions.items():
        routes.post(path)(post_question(answer))
    app = getattr(server, "app", None)
    if app is not None and not app.frozen:
        app.middlewares.extend((one_message, asked_again))


def add_routes(routes: web.RouteTableDef) -> None:
    routes.get("/mixgrpo/live")(get_live)
    routes.get("/mixgrpo/runs/{run}")(get_run)
    routes.post("/mixgrpo/runs/{run}/command")(post_command)
    routes.post("/mixgrpo/runs/{run}/keep")(post_keep)
    routes.post("/mixgrpo/runs/{run}/taste/wrong")(post_wrong)
    routes.get("/mixgrpo/runs/{run}/ballots/{ballot}")(get_ballot)
    routes.post("/mixgrpo/runs/{run}/ballots/{ballot}/votes")(post_votes)


@web.middleware
async def one_message(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The host's answers to queued workflows, with every sentence about a node of this pack once."""
    answer = await handler(request)
    if request.method != "POST" or not request.path.endswith("/prompt") or not isinstance(answer, web.Response):
        return answer
    try:
        said = json.loads(answer.text or "")
        kept = without_copies(said)
    except (ValueError, KeyError, TypeError, AttributeError):  # another version's answer, or another pack's
        return answer
    return answer if kept == said else web.json_response(kept, status=answer.status)


@web.middleware
async def asked_again(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The pack's modules and help, which a browser may keep but asks about. The host forbids keeping ``.js`` and
    ``.css`` only, and after an update old modules would be mixed with those for days."""
    answer = await handler(request)
    if request.path.startswith(FILES) and request.path.endswith((".mjs", ".md")):
        answer.headers.setdefault("Cache-Control", "no-cache")
    return answer


async def get_live(request: web.Request) -> web.Response:
    """The runs that are live, each with the id of its node, and the node that prepares one or failed to."""
    preparing = board.preparing and board.preparing.snapshot()
    return web.json_response({"runs": [run.snapshot() for run in board.live()], "preparing": preparing})


async def get_run(request: web.Request) -> web.Response:
    """All there is to draw of a run."""
    name = request.match_info["run"]
    path = find_run(name)
    if path is None:
        return _sentence(404, f"There is no run named {name!r} in the output folder.")
    live = board.find(name)
    told = live or board.ended(name)
    answer: dict[str, Any] = {"run": name, "live": live is not None, "said": told and told.snapshot()}
    answer |= await asyncio.to_thread(stored, path)
    if live is not None:
        answer["plan"] = await asyncio.to_thread(
            drawn_plan, live.plan_of, live.sigmas, live.iterations, iterations_done(answer["reports"])
        )
    return web.json_response(answer)


async def post_command(request: web.Request) -> web.Response:
    """Let a command wait for the end of the iteration."""
    name = request.match_info["run"]
    try:
        command = await _command(request)
    except (_TooLarge, ValueError, KeyError, TypeError, RecursionError):
        names = ", ".join(known.value for known in Command)
        return _sentence(400, f'Expected {{"command": ...}} with one of {names}.')
    live = board.find(name)
    if live is not None:
        live.ask(command)
        return web.json_response({"taken": command.value})
    if find_run(name) is None:
        return _sentence(404, f"There is no run named {name!r} in the output folder.")
    return _sentence(409, f"The run {name!r} is not being trained right now, so it takes no commands.")


async def _command(request: web.Request) -> Command:
    """Raises what a body raises that is none."""
    return Command((await _body(request))["command"])


async def post_keep(request: web.Request) -> web.Response:
    """Make a LoRA of the gallery the run's, and answer with the gallery. The run need not be live."""
    name = request.match_info["run"]
    try:
        iteration = (await _body(request))["iteration"]
        if iteration is not None and type(iteration) is not int:
            raise TypeError("an iteration is a whole number")
    except (_TooLarge, ValueError, KeyError, TypeError, RecursionError):
        return _sentence(400, 'Expected {"iteration": ...} with a number of the gallery, or null.')
    path = find_run(name)
    if path is None:
        return _sentence(404, f"There is no run named {name!r} in the output folder.")
    try:
        await asyncio.to_thread(gallery_of(path).keep, iteration)
    except RunError as error:
        return _sentence(409, f"{error}.")
    live = board.find(name)
    if live is not None:
        with harmless():
            live.show_gallery()
    return web.json_response(await asyncio.to_thread(gallery_payload, path))


async def post_wrong(request: web.Request) -> web.Response:
    """Say that a taste is wrong about an image that the page shows, or take that back. The run need not be live."""
    name = request.match_info["run"]
    try:
        found = await _body(request)
        image, wrong = found["image"], found["wrong"]
        if type(image) is not str or type(wrong) is not bool:
            raise TypeError("an image is a word, and wrong is true or false")
    except (_TooLarge, ValueError, KeyError, TypeError, RecursionError):
        return _sentence(400, 'Expected {"image": ..., "wrong": true or false}.')
    path = find_run(name)
    if path is None:
        return _sentence(404, f"There is no run named {name!r} in the output folder.")
    try:
        said = await asyncio.to_thread(correct, path, image, wrong)
    except FileNotFoundError:
        return _sentence(404, f"The run {name!r} shows no such image any more.")
    except (HeardError, BallotError) as error:
        return _sentence(409, f"{error}.")
    except OSError as error:
        return _sentence(503, f"The click could not be written ({error.strerror or error}): try again.")
    live = board.find(name)
    if live is not None:
        with harmless():
            live.tasting.tell()
    return web.json_response({"image": image, "said": said})


def post_question(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of a question, which is answered beside the server's loop."""

    async def post(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(answer, await _body(request, LARGEST_QUESTION)))
        except _TooLarge:
            return _sentence(413, f"Questions of more than {LARGEST_QUESTION} bytes are not answered.")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _sentence(400, f"This is no question that {request.path} answers.")

    return post


async def get_ballot(request: web.Request) -> web.Response:
    """A group that people vote on."""
    return await _of_ballot(request, BallotBox.read)


async def post_votes(request: web.Request) -> web.Response:
    """Take votes for some images of a ballot; null takes one back. The run need not be live: votes may come late."""
    try:
        votes, end = await _votes(request)
    except _TooLarge:
        return _sentence(413, f"Votes of more than {LARGEST_BODY} bytes are not taken.")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _sentence(400, 'Expected {"votes": {"0": 1, "3": null}} and perhaps "end": "done" or "skipped".')
    return await _of_ballot(request, lambda box, id: box.vote(id, votes, end))


async def _of_ballot(request: web.Request, work: Callable[[BallotBox, str], Ballot]) -> web.Response:
    """The ballot that ``work`` on the run's box gives, or a sentence about what is wrong."""
    name, id = request.match_info["run"], request.match_info["ballot"]
    path = find_run(name)
    if path is None:
        return _sentence(404, f"There is no run named {name!r} in the output folder.")
    box = BallotBox(path / VOTES)
    try:
        ballot = await asyncio.to_thread(work, box, id)
    except FileNotFoundError:
        return _sentence(404, f"The run {name!r} has no ballot {id!r}.")
    except BallotError as error:
        return _sentence(409, f"The ballot is damaged: {error}.")
    except HeardError as error:
        return _sentence(409, f"{error}.")
    except ValueError as error:
        return _sentence(400, f"This is no vote: {error}.")
    except OSError as error:
        return _sentence(503, f"The vote could not be written ({error.strerror or error}): try again.")
    live = board.find(name)
    if live is not None:
        live.voting.on_vote(ballot)
    return web.json_response(await asyncio.to_thread(payload, ballot, box))


class _TooLarge(Exception):
    """A body of too many bytes."""


async def _body(request: web.Request, most: int = LARGEST_BODY) -> Any:
    """JSON of at most ``most`` bytes."""
    body = b""
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise _TooLarge
    return json.loads(body)


async def _votes(request: web.Request) -> tuple[dict[int, int | None], State | None]:
    """Votes by image, and how the ballot ends, if it does. Raises what a body raises that is none."""
    found = await _body(request)
    votes = {int(image): vote for image, vote in found.get("votes", {}).items()}
    if not all(vote is None or type(vote) is int for vote in votes.values()):
        raise TypeError("a vote is a whole number")
    return votes, ENDS[found.get("end")]


def _sentence(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
