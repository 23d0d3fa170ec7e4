"""What the core says reaches people at a command line, in a script and on a canvas: it speaks of settings, not of code.

A class in the spelling of a run file (``GRPO(kl=0.001)``) is a setting, on the canvas too; ``--size`` is a prompt's.
"""

import ast
import re
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "mixgrpo_core"
SCRIPTS_ONLY = {"cli", "families", "diffusers"}
"""Rooms whose sentences reach no canvas."""
CODE = re.compile(
    r"\.[a-z_]\w*\(|\b[a-z_]+\([\w\"'.]*[,)]|(?<!\w)--(?!size\b)\w|\btorch\.|\b(True|False)\b|build the model|the paper"
)


def sentences():
    for path in sorted(CORE.rglob("*.py")):
        if not SCRIPTS_ONLY & set(path.relative_to(CORE).parts):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    yield from ((path.name, said) for said in said_by(node.exc))
                elif isinstance(node, ast.keyword) and node.arg in ("why", "help"):
                    yield from ((path.name, said) for said in said_by(node.value))


def said_by(whole):
    """The constant parts of a sentence."""
    for part in ast.walk(whole):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


@pytest.mark.parametrize(
    "said", ["take images.permute(0, 2)", "call flow_sigmas(steps, shift)", "add --rank 8", "use sigmas.float()"]
)
def test_code_is_told_from_words(said):
    assert CODE.search(said)
    assert not CODE.search('write "GRPO(kl=0.001)", or lower the size (4 at most)')


def test_no_sentence_speaks_of_code():
    found = list(sentences())
    assert len(found) > 500
    assert [(file, said) for file, said in found if CODE.search(said)] == []
