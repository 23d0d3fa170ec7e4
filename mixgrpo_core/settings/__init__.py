"""Everything a run is asked to do: the config, the published presets, prompts; below are the prompt sources."""

from .prompt_sources import PromptDraw, PromptSource, Shuffled

__all__ = ["PromptDraw", "PromptSource", "Shuffled"]
