"""Folders of judges that people have: where they come from, and their licences."""

from pathlib import Path

from ..networks.known_files import KnownFile

JUDGE_FILES = (
    KnownFile(
        name="UnifiedReward-2.0-qwen3vl-2b",
        source="CodeGoat24/UnifiedReward-2.0-qwen3vl-2b, the whole folder",
        size=4_300_000_000,
        licence="MIT, over Qwen3-VL's Apache-2.0",
    ),
    KnownFile(
        name="UnifiedReward-2.0-qwen3vl-8b",
        source="CodeGoat24/UnifiedReward-2.0-qwen3vl-8b, the whole folder",
        size=17_500_000_000,
        licence="MIT, over Qwen3-VL's Apache-2.0",
    ),
    KnownFile(
        name="UnifiedReward-2.0-qwen-7b",
        source="CodeGoat24/UnifiedReward-2.0-qwen-7b, the whole folder",
        size=16_600_000_000,
        licence="MIT, over Qwen2.5-VL-7B's Apache-2.0",
    ),
    KnownFile(
        name="UnifiedReward-qwen-7b",
        source="CodeGoat24/UnifiedReward-qwen-7b, the whole folder",
        size=16_600_000_000,
        licence="MIT, over Qwen2.5-VL-7B's Apache-2.0",
    ),
    KnownFile(
        name="UnifiedReward-2.0-qwen-3b",
        source="CodeGoat24/UnifiedReward-2.0-qwen-3b, the whole folder",
        size=7_500_000_000,
        licence="MIT, over Qwen2.5-VL-3B, whose licence is for research only: read its terms before other uses",
    ),
)
"""Sizes in bfloat16."""


def licence_of(folder: str) -> str:
    """Of a known folder, by its name; empty for others."""
    name = Path(folder).name.casefold()
    return next((file.licence for file in JUDGE_FILES if file.name.casefold() == name), "")
