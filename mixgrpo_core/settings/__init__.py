"""Everything a run is asked to do: the config, its kinds, the published presets, prompts and their sources."""
