"""Answers by content: the same model, question, pictures and parameters are asked once.

In memory, and in an SQLite file where one is named: that survives the process, and any number of them may share it. A
file that fails later, or goes away, costs no answer: what it held is asked again.
"""

import hashlib
import json
import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .answers import Answer

IN_MEMORY = 20_000
"""Answers, a few hundred bytes each."""
log = logging.getLogger(__name__)


class AnswerCache:
    """Remembers answers, never problems."""

    def __init__(self, file: str | Path = "") -> None:
        """``file``: of SQLite; empty for memory only.

        Raises:
            ValueError: it cannot be opened, or is something else.
        """
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._lock = threading.Lock()
        self._file: Path | None = None
        if file:
            try:
                self._file = Path(file).expanduser()
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._opened() as disk:
                    disk.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT, first TEXT)")
            except (OSError, RuntimeError, sqlite3.Error) as error:
                raise ValueError(f"the answers in {file} cannot be used: {error}; name another file") from error

    def find(self, key: str) -> Answer | None:
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
            found = self._on_disk(key)
            if found is not None:
                self._keep(key, found)
            return found

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keep all of ``answers``: on the disk all or none."""
        with self._lock:
            for key, answer in answers.items():
                self._keep(key, answer)
            if self._file is not None and answers:
                rows = [(key, answer.text, json.dumps(dict(answer.first))) for key, answer in answers.items()]
                try:
                    with self._opened() as disk:
                        disk.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
                except sqlite3.Error as error:
                    log.warning("answers cannot be kept in %s: %s", self._file, error)

    def _keep(self, key: str, answer: Answer) -> None:
        self._answers[key] = answer
        while len(self._answers) > IN_MEMORY:
            self._answers.popitem(last=False)

    def _on_disk(self, key: str) -> Answer | None:
        if self._file is None:
            return None
        try:
            with self._opened() as disk:
                row = disk.execute("SELECT text, first FROM answers WHERE key = ?", (key,)).fetchone()
            return Answer(row[0], json.loads(row[1])) if row else None
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            log.warning("answers kept in %s cannot be read: %s", self._file, error)
            return None

    def _opened(self) -> "_Transaction":
        return _Transaction(sqlite3.connect(self._file, timeout=30))


class _Transaction:
    """A connection that is committed, or rolled back, and closed; sqlite3's own does not close."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        return self._connection.__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            self._connection.__exit__(*error)
        finally:
            self._connection.close()


def key_of(body: Mapping[str, Any]) -> str:
    """SHA-256 of a whole request: model, question, pictures, parameters. Keys and addresses are no part of requests."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
