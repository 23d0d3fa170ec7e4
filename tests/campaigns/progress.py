"""What a campaign has done so far, in a file: interrupted and started again, it goes on behind the last whole case.

.long/<part>.jsonl           a line per case, behind one that says which code they are of: other code begins anew
.long/figures/<part>.json    what it found, for ``benchmarks/reliability.py``
.long/failed/<part>-<case>/  the input of a case that failed
"""

import hashlib
import json
import platform
import subprocess
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".long"
CODE = ("mixgrpo_core", "nodes", "judge", "tests/campaigns")


def digest_of_code():
    """Of the files that git knows, as they are on the disk."""
    names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", *CODE).split("\0")
    digest = hashlib.sha256()
    for name in sorted(name for name in names if name.endswith(".py") and (ROOT / name).is_file()):
        digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    return digest.hexdigest()


def _git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


class Progress:
    """The cases of one part. A case is a dict with a ``case`` (number or name) and ``seconds``; the rest is its own."""

    def __init__(self, part, wanted, folder=FOLDER, code=None):
        self.part, self.wanted, self.folder = part, wanted, folder
        self.code = code or digest_of_code()
        self.file = folder / f"{part}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.cases = self._read()
        lines = [{"code": self.code}, *self.cases.values()]
        self.file.write_text("".join(json.dumps(line) + "\n" for line in lines))  # without a torn line

    def _read(self):
        if not self.file.exists():
            return {}
        head, *lines = self.file.read_text().splitlines() or [""]
        try:
            if json.loads(head)["code"] != self.code:
                return {}
            return {case["case"]: case for case in map(json.loads, lines)}
        except (ValueError, KeyError):  # a kill tore the last line: nothing before it can be trusted less
            whole = [json.loads(line) for line in lines[:-1]] if lines else []
            return {case["case"]: case for case in whole}

    def add(self, **case):
        self.cases[case["case"]] = case
        with self.file.open("a") as file:
            file.write(json.dumps(case) + "\n")

    def counted(self, name="outcome"):
        return dict(Counter(case[name] for case in self.cases.values() if name in case))

    @property
    def seconds(self):
        return sum(case["seconds"] for case in self.cases.values())

    def finish(self, tell, **figures):
        """Write and tell what was found."""
        figures = {
            "part": self.part,
            "run": len(self.cases),
            "wanted": self.wanted,
            "seconds": round(self.seconds, 1),
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "commit": _git("rev-parse", "--short", "HEAD").strip(),
            "python": platform.python_version(),
            **figures,
        }
        place = self.folder / "figures" / f"{self.part}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(figures, indent=1) + "\n")
        tell(f"{self.part}: {len(self.cases)} of {self.wanted}, {self.seconds:.0f} s; {json.dumps(figures)}")
        return figures


class Teller:
    """Prints past pytest's capture: a campaign of an hour should be heard while it runs."""

    def __init__(self, config, every=30.0):
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._every, self._last = every, time.monotonic()

    def __call__(self, words):
        with self._capture.global_and_fixture_disabled():
            print(f"\n{words}", end="", flush=True)

    def now_and_then(self, words):
        if time.monotonic() - self._last > self._every:
            self._last = time.monotonic()
            self(words)
