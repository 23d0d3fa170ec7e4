"""Where a piece of work writes, whom it calls and what it starts, as Python's audit hooks and a canary tree see it."""

import os
import sys
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # event -> how many of its first arguments are paths that change
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), 1),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 2),
    "shutil.rmtree": 1,
    "os.setxattr": 1,
}
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "os.kill")
CALLS = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
HERE = ("127.0.0.1", "localhost", "::1")


class Watch:
    """Sees what this process does from now on; it cannot be taken off, so it belongs into a child.

    ``own``: the folder that may be written in; None while nobody is watched. ``seen``: what was done besides.
    """

    def __init__(self):
        self.own, self.seen = None, []
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if self.own is None:
            return
        if event == "open":
            path, _, flags = arguments
            if flags & WRITES:
                self._written(event, path)
        elif event in CHANGES:
            for path in arguments[: CHANGES[event]]:
                self._written(event, path)
        elif event in STARTS:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in CALLS:
            self._called(event, arguments)

    def _written(self, event, path):
        if isinstance(path, int) or path is None:
            return
        whole = os.path.abspath(os.fsdecode(path))
        if whole != os.devnull and not (whole + os.sep).startswith(str(self.own) + os.sep):
            self.seen.append(f"{event} {whole}")

    def _called(self, event, arguments):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        if host not in HERE:
            self.seen.append(f"{event} {address!r:.200}")


class Canary:
    """A home, a working folder, a folder for temporary files and a neighbour, which nobody has to write in."""

    def __init__(self, root):
        self.root = Path(root)
        for name in ("home", "cwd", "tmp", "neighbour"):
            (self.root / name / ".config").mkdir(parents=True, exist_ok=True)
            (self.root / name / "kept.txt").write_text("as it was\n")

    def move_in(self):
        """Make them this process's own."""
        import tempfile

        os.environ |= {"HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp")}
        os.environ.pop("XDG_CONFIG_HOME", None)
        tempfile.tempdir = None
        os.chdir(self.root / "cwd")

    def state(self):
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in (".", *names):
                told = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (told.st_mode, told.st_size, told.st_mtime_ns)
        return found
