"""A small client of a running ComfyUI, for tests: workflows in API format in, everything it answers out.

    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    image = graph.add("VAEDecode", samples=..., vae=demo[2])     # demo[2] is the third output of that node
    graph.add("PreviewImage", images=image[0])

    with Client(host.address) as client:
        run = client.run(graph)                     # queue it, follow it to its end; ExecutionFailed if a node raised
        run.outputs["3"]["images"]                  # what each node showed, as in the history (keys are node ids)
        run.events                                  # every event since it was queued: .name, .data, .at (seconds)
        run.named("mixgrpo.report")                 # the data of the events of one name, in order
        run.previews, run.texts                     # .node, .image() / .node, .text: progress pictures and lines

        run = client.queue(graph)                   # returns at once; Refused (with .node_errors) if it is not valid
        run.wait_for("mixgrpo.report", count=2)     # until two of them came; returns the data of the last one
        client.interrupt(run)
        run.wait()                                  # until it ended, however that was; returns run
        run.end                                     # "success", "error" or "interrupted"; run.error tells why

        client.get("/mixgrpo/live")                 # any route, JSON decoded; Status (with .code) if it is not 200
        client.post("/mixgrpo/runs/my-run/command", {"command": "stop"})
        client.view(run.outputs["3"]["images"][0])  # the bytes of an image that a node showed

Events named ``mixgrpo.*`` and others without a prompt id belong to the run that was last queued by any client, so
follow one training at a time. A run that is found in ComfyUI's cache sends no events of its nodes: change an input.
"""

import asyncio
import io
import json
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field

import aiohttp

PREVIEW, TEXT, PREVIEW_OF_NODE = 1, 3, 4  # protocol.BinaryEventTypes
ENDS = {"execution_success": "success", "execution_error": "error", "execution_interrupted": "interrupted"}


class Status(Exception):
    """A reply that is not 200: ``code`` and ``body`` (text)."""

    def __init__(self, place, code, body):
        super().__init__(f"{place}: {code} {body}")
        self.code, self.body = code, body


class Refused(Exception):
    """The workflow was not valid. ``node_errors`` is ComfyUI's answer, ``messages`` its sentences."""

    def __init__(self, body):
        self.node_errors = body.get("node_errors") or {}
        self.messages = [body["error"]["message"]] + [
            f"{error['message']}: {error['details']}" for node in self.node_errors.values() for error in node["errors"]
        ]
        super().__init__("\n".join(self.messages))


class ExecutionFailed(Exception):
    """A node raised. ``data`` is the event execution_error."""

    def __init__(self, data):
        self.data = data
        super().__init__(f"{data['node_type']}: {data['exception_message']}\n{''.join(data['traceback'])}")


@dataclass(frozen=True)
class Event:
    """One message of the websocket; ``at`` is the time of its arrival (time.monotonic)."""

    name: str
    data: dict
    at: float


@dataclass(frozen=True)
class Preview:
    """A picture of unfinished work; ``node`` is None where ComfyUI does not say whose it is."""

    data: bytes
    node: str | None
    at: float

    def image(self):
        from PIL import Image

        return Image.open(io.BytesIO(self.data))


@dataclass(frozen=True)
class ProgressText:
    text: str
    node: str
    at: float


class Graph(dict):
    """A workflow in API format that is written node by node; ids count from 1."""

    def add(self, class_type, **inputs):
        """Add a node; an input is a value or another node's output. Returns the node: ``node[0]``, ``node.id``."""
        node = Node(str(len(self) + 1))
        self[node.id] = {"class_type": class_type, "inputs": inputs}
        return node


@dataclass(frozen=True)
class Node:
    id: str

    def __getitem__(self, output):
        return [self.id, output]


@dataclass
class Run:
    """One queued workflow and what came back from it so far.

    ``left_out`` are the errors of nodes that are not valid and do not run; others of the workflow are and do.
    """

    id: str
    client: "Client"
    events: list[Event] = field(default_factory=list)
    left_out: dict = field(default_factory=dict)
    previews: list[Preview] = field(default_factory=list)
    texts: list[ProgressText] = field(default_factory=list)
    end: str | None = None
    error: dict | None = None
    finished: bool = False

    def named(self, name):
        return [event.data for event in list(self.events) if event.name == name]

    def executed(self):
        """Ids of the nodes that really ran, in order; those found in the cache are not among them."""
        return [data["node"] for data in self.named("executing") if data["node"] is not None]

    def wait(self, timeout=120):
        """Until ComfyUI is done with it and its history is written; seconds. Returns self."""
        self.client._wait(lambda: self.finished, timeout, lambda: f"the run did not end; {self._last()}")
        return self

    def wait_for(self, name, where=lambda data: True, count=1, timeout=120):
        """Until ``count`` events of that name came for which ``where(data)``; returns the data of the last of them."""

        def found():
            return [data for data in self.named(name) if where(data)]

        def enough():
            return len(found()) >= count or self.finished

        self.client._wait(enough, timeout, lambda: f"{len(found())} of {count} {name}; {self._last()}")
        if len(found()) < count:
            raise AssertionError(f"the run ended ({self.end}) after {len(found())} of {count} {name}: {self.error}")
        return found()[count - 1]

    @property
    def outputs(self):
        """What its nodes showed: {node id: ui}."""
        return self.client.history(self.id)["outputs"]

    def _last(self):
        return f"the last events were {[event.name for event in self.events[-5:]]}"

    def _receive(self, message):
        if not isinstance(message, Event):
            (self.previews if isinstance(message, Preview) else self.texts).append(message)
            return
        if message.data.get("prompt_id", self.id) != self.id:
            return
        self.events.append(message)
        if message.name in ENDS:
            self.end = ENDS[message.name]
            self.error = None if self.end == "success" else message.data
        # the last thing ComfyUI says of a workflow, after it has written the history
        if message.name == "executing" and message.data["node"] is None and "prompt_id" in message.data:
            self.finished = True


class Client:
    """A connection of its own to a ComfyUI, as a browser tab has one. Used as a context manager.

    Routes can be asked without it, too; workflows cannot be followed then.
    """

    def __init__(self, address):
        self.address = address
        self.id = uuid.uuid4().hex
        self._run = None
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._listen()), daemon=True)
        self._connected, self._closed, self._closing = False, False, None

    def __enter__(self):
        self._thread.start()
        self._wait(lambda: self._connected, 30, lambda: f"no websocket at {self.address}")
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(timeout=10)

    # Running workflows

    def queue(self, graph, extra_data=None):
        """Queue a workflow in API format and return its :class:`Run` at once. Raises :class:`Refused`."""
        run = Run(str(uuid.uuid4()), self)
        self._run = run  # before it is queued: its first events may be faster than the reply
        try:
            body = {"prompt": graph, "client_id": self.id, "prompt_id": run.id, "extra_data": extra_data or {}}
            reply = self.post("/prompt", body)
        except Status as error:
            raise Refused(json.loads(error.body)) from None
        with self._news:
            run.left_out = reply["node_errors"]
            if reply["prompt_id"] != run.id:  # hosts that name it themselves; nothing of it came through the filter
                run.id = reply["prompt_id"]
        return run

    def run(self, graph, timeout=120):
        """Queue a workflow and wait for its end. Raises :class:`Refused` and :class:`ExecutionFailed`."""
        run = self.queue(graph).wait(timeout)
        if run.end == "error":
            raise ExecutionFailed(run.error)
        assert run.end == "success", f"the run ended with {run.end}"
        return run

    def interrupt(self, run=None):
        """Press the cross: of one run, or of whatever is running."""
        self.post("/interrupt", {"prompt_id": run.id} if run else {})

    def history(self, run_id):
        return self.get(f"/history/{run_id}")[run_id]

    def view(self, image):
        """The bytes of an image that a node showed: an entry of ``run.outputs[node]["images"]``."""
        return self.request("/view?" + urllib.parse.urlencode(image))

    # Any route

    def get(self, place):
        return json.loads(self.request(place))

    def post(self, place, data):
        """The decoded reply, or None if it is empty."""
        body = self.request(place, json.dumps(data).encode())
        return json.loads(body) if body else None

    def request(self, place, body=None):
        """Bytes of the reply to GET, or to POST where there is a body. Raises :class:`Status`."""
        request = urllib.request.Request(self.address + place, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise Status(place, error.code, error.read().decode(errors="replace")) from None

    # The websocket, in a thread of its own

    async def _listen(self):
        self._closing = asyncio.Event()
        place = f"{self.address}/ws?clientId={self.id}"
        try:
            async with aiohttp.ClientSession() as session, session.ws_connect(place, max_msg_size=0) as socket:
                await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                closing = asyncio.ensure_future(self._closing.wait())
                reading = asyncio.ensure_future(self._read(socket))
                await asyncio.wait({closing, reading}, return_when=asyncio.FIRST_COMPLETED)
                closing.cancel()
        finally:
            with self._news:
                self._closed = True
                self._news.notify_all()

    async def _read(self, socket):
        async for message in socket:
            news = decode(message)
            with self._news:
                self._connected = True  # the first message is the server's greeting: from here on it knows us
                if self._run is not None and news is not None:
                    self._run._receive(news)
                self._news.notify_all()

    def _wait(self, done, timeout, trouble):
        with self._news:
            self._news.wait_for(lambda: done() or self._closed, timeout)
            if done():
                return
            if self._closed:
                raise ConnectionError(f"ComfyUI closed the connection: {trouble()}")
            raise TimeoutError(f"after {timeout} s: {trouble()}")


def decode(message):
    """An aiohttp message as Event, Preview or ProgressText; None for kinds that no test needs."""
    now = time.monotonic()
    if message.type == aiohttp.WSMsgType.TEXT:
        content = json.loads(message.data)
        return Event(content["type"], content["data"], now)
    if message.type != aiohttp.WSMsgType.BINARY:
        return None
    kind, first = struct.unpack(">II", message.data[:8])
    if kind == PREVIEW:  # the second word says JPEG or PNG
        return Preview(message.data[8:], None, now)
    if kind == TEXT:
        return ProgressText(message.data[8 + first :].decode(), message.data[8 : 8 + first].decode(), now)
    if kind == PREVIEW_OF_NODE:
        about = json.loads(message.data[8 : 8 + first])
        return Preview(message.data[8 + first :], about.get("node_id"), now)
    return None
