"""What the live view asks of the server. Everything reads, but for one command to a run that is live.

GET  /mixgrpo/live                  the runs that are live
GET  /mixgrpo/runs/{run}            settings, reports and plan from the run's folder, and its state
POST /mixgrpo/runs/{run}/command    {"command": "sample" | "save" | "pause" | "stop"}
"""

import asyncio
import json
from typing import Any

from aiohttp import web

from .board import Command, board
from .events import host
from .runs import drawn_plan, find_run, stored

_registered: set[int] = set()


def register_routes() -> None:
    """Add the routes to the host's server, once; nothing happens where there is none."""
    server = host()
    routes = getattr(server, "routes", None)
    if routes is None or id(routes) in _registered:
        return
    _registered.add(id(routes))
    add_routes(routes)


def add_routes(routes: web.RouteTableDef) -> None:
    routes.get("/mixgrpo/live")(get_live)
    routes.get("/mixgrpo/runs/{run}")(get_run)
    routes.post("/mixgrpo/runs/{run}/command")(post_command)


async def get_live(request: web.Request) -> web.Response:
    """The runs that are live, each with the id of its node."""
    return web.json_response({"runs": [run.snapshot() for run in board.live()]})


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
        answer["plan"] = await asyncio.to_thread(drawn_plan, live.planner, live.sigmas, live.iterations)
    return web.json_response(answer)


async def post_command(request: web.Request) -> web.Response:
    """Let a command wait for the end of the iteration."""
    name = request.match_info["run"]
    command = await _command(request)
    if command is None:
        names = ", ".join(known.value for known in Command)
        return _sentence(400, f'Expected {{"command": ...}} with one of {names}.')
    live = board.find(name)
    if live is not None:
        live.ask(command)
        return web.json_response({"taken": command.value})
    if find_run(name) is None:
        return _sentence(404, f"There is no run named {name!r} in the output folder.")
    return _sentence(409, f"The run {name!r} is not being trained right now, so it takes no commands.")


async def _command(request: web.Request) -> Command | None:
    try:
        body = await request.json()
        return Command(body["command"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return None


def _sentence(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
