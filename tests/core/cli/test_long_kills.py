"""Hundreds of kills of ``mixgrpo train`` and ``resume``: every run ends bit for bit as if nothing had happened."""

from collections import Counter

import pytest
from campaigns.kills import kill_many
from campaigns.progress import Progress, Teller


@pytest.mark.long("kills")
def test_kills(request, tmp_path):
    count, tell = request.config.getoption("--kills"), Teller(request.config)
    progress = Progress("kills", count)
    differ = kill_many(count, tmp_path, progress, tell)
    cases = progress.cases.values()
    kills = [kill for case in cases for kill in case["kills"]]
    progress.finish(
        tell,
        run=len(kills),
        stories=len(cases),
        signals=dict(Counter(kill["signal"] for kill in kills)),
        aims=dict(Counter(kill["aim"] for kill in kills)),
        again=sum(case["again"] for case in cases),
        fault=len(differ),
    )
    assert not differ, f"{len(differ)} of {len(cases)} runs differ: {differ}"
