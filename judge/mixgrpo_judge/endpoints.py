"""The file of endpoints: names for servers, written by the owner of the machine.

    [qwen]
    url = "http://127.0.0.1:8000"
    model = "UnifiedReward-2.0-qwen3vl-4b"

Pictures go nowhere but to addresses in this file; one that is not on this machine needs ``remote = true`` beside it.
"""

import ipaddress
import logging
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)


class EndpointError(ValueError):
    """An endpoint that is not there or not right. Its words never hold a key."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server, and how it is asked.

    Attributes:
        name: in the file.
        url: of the server, with or without ``/v1``.
        model: as the server calls it; empty for the only one that it has.
        key: sent as bearer token; ``key_file`` in the file reads it from another file.
        concurrency: most requests in flight.
        timeout: seconds for one answer at the first try, half as much more at every further one.
        retries: further tries when the server is busy, ill, late or gone.
        backoff: seconds before the first of them, doubled each time, at most 10. A server that names a time is heard.
        longest_side: pixels to which larger pictures are shrunk before they are sent; 0 leaves them.
        quality: of the JPEG files that are sent, 1..95.
        temperature: of the answers.
        extra: what else goes into every request, such as ``chat_template_kwargs = {enable_thinking = false}``.
        remote: the address is not on this machine, and pictures may go there.
    """

    name: str
    url: str
    model: str = ""
    key: str = field(default="", repr=False)
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 3
    backoff: float = 0.5
    longest_side: int = 1024
    quality: int = 95
    temperature: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    remote: bool = False

    def __post_init__(self) -> None:
        self._check_values()
        if not self.url.isprintable() or " " in self.url:
            raise EndpointError(f"the url of {self.name!r} holds spaces or line ends, {self.url!r}: take them out")
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise EndpointError(
                f"expected an address such as http://127.0.0.1:8000 for {self.name!r}: {error}"
            ) from error
        if parts.scheme not in ("http", "https") or not host:
            raise EndpointError(f"expected an http or https address for {self.name!r}, found {parts.scheme or 'none'}")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise EndpointError(
                f"expected an address without user, password and query for {self.name!r}: a key belongs into key"
                " or key_file"
            )
        if not self.remote and not is_loopback(host):
            raise EndpointError(
                f"{host} of {self.name!r} is not this machine: pictures are sent there only with"
                " remote = true beside url"
            )
        if self.key and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise EndpointError(
                f"the key of {self.name!r} holds spaces, line ends or other characters that keys have not"
            )
        if self.key and parts.scheme == "http" and not is_loopback(host):
            log.warning(
                "the key of endpoint %r goes over the network unencrypted: its url begins with http:", self.name
            )

    @property
    def local(self) -> bool:
        """It is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def base(self) -> str:
        """The address without ``/v1`` and slashes at its end."""
        return self.url.rstrip("/").removesuffix("/v1").rstrip("/")

    def _check_values(self) -> None:
        for entry, low, high in (
            *(("concurrency", 1, 1024), ("timeout", 0.001, 86400), ("retries", 0, 100), ("backoff", 0, 600)),
            *(("longest_side", 0, 1 << 16), ("quality", 1, 95), ("temperature", 0, 10)),
        ):
            if not low <= getattr(self, entry) <= high:
                raise EndpointError(f"expected {entry} of {self.name!r} in {low}..{high}, found {getattr(self, entry)}")


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its very form; names are not looked up."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_file() -> Path:
    """Where the endpoints are when nobody says otherwise."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "mixgrpo" / "endpoints.toml"


def read_endpoints(file: str | Path = "") -> dict[str, Endpoint]:
    """All endpoints of a file by name.

    Raises:
        EndpointError: no file, not TOML, or an entry that is not right; names the entry and never its key.
    """
    try:
        path = Path(file).expanduser() if file else default_file()
    except RuntimeError as error:  # the home of a user that there is not
        raise EndpointError(f"no home folder is known for the file of endpoints {str(file)!r}: {error}") from error
    try:
        text = _text(path)
    except FileNotFoundError as error:
        raise EndpointError(
            f"expected a file of endpoints at {path}, found none: see the README of mixgrpo-judge"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(f"the endpoints in {path} cannot be read as UTF-8: {type(error).__name__}") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its words hold a place and no text of the file
        raise EndpointError(f"{path} is not TOML: {error}") from None
    found = {name: _endpoint(name, table, path) for name, table in tables.items()}
    if any(endpoint.key for endpoint in found.values()):
        _warn_of_readers(path)
    return found


def _text(path: Path) -> str:
    """A file that a person wrote: UTF-8, or UTF-16 with its mark, as Windows saves it."""
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _endpoint(name: str, table: Any, path: Path) -> Endpoint:
    if not isinstance(table, dict):
        raise EndpointError(
            f"expected tables such as [{name}] with url and model in {path}, found {name!r} outside of one"
        )
    table = dict(table)
    if "key_file" in table:
        table["key"] = _key_of(name, table.pop("key_file"), path)
    known = {entry.name: entry.type for entry in fields(Endpoint) if entry.name != "name"}
    for entry, value in table.items():
        if entry not in known:
            close = get_close_matches(entry, [*known, "key_file"], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}, key_file"
            raise EndpointError(f"[{name}] in {path} has an unknown entry {entry!r}; {hint}")
        if not _fits(value, known[entry]):
            raise EndpointError(f"expected {entry} of [{name}] in {path} to be {_word(known[entry])}")
    if "url" not in table:
        raise EndpointError(f'expected url = "http://..." in [{name}] of {path}, found none')
    try:
        return Endpoint(name=name, **table)
    except EndpointError as error:
        raise EndpointError(f"{error} (in {path})") from None


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, dict)


def _word(kind: Any) -> str:
    words = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(kind, "a table")


def _key_of(name: str, file: Any, path: Path) -> str:
    if not isinstance(file, str):
        raise EndpointError(f"expected key_file of [{name}] in {path} to be {_word(str)}")
    try:
        place = path.parent / Path(file).expanduser()  # RuntimeError: the home of a user that there is not
        return _text(place).strip()
    except (OSError, RuntimeError, ValueError) as error:
        raise EndpointError(
            f"key_file of [{name}] in {path} cannot be read: {file!r} ({type(error).__name__}); correct the path"
        ) from None


_warned: set[Path] = set()  # once: a host reads the file at every turn


def _warn_of_readers(path: Path) -> None:
    if os.name == "posix" and path not in _warned and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        _warned.add(path)
        log.warning("%s holds keys and other users of this machine can read it: chmod 600 it", path)
