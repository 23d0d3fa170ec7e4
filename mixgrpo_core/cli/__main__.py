"""``python -m mixgrpo_core.cli``: the command, as a launcher of several processes starts it."""

import sys

from .dispatch import main

if __name__ == "__main__":
    sys.exit(main())
