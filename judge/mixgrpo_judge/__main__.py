"""The command ``mixgrpo-judge``."""

import sys
from collections.abc import Sequence

from .serving import ServingError, serve


def main(words: Sequence[str] | None = None) -> int:
    """``serve-rewards REWARDS.toml``. What goes wrong is one sentence and status 2."""
    command, *rest = [*(sys.argv[1:] if words is None else words), ""]
    try:
        if command != "serve-rewards":
            raise ServingError("mixgrpo-judge serve-rewards REWARDS.toml serves the rewards of a file to several runs")
        return serve([word for word in rest if word])
    except ServingError as error:
        sys.stderr.write(f"mixgrpo-judge: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
