"""Everything a run is asked to do: the config, its ranges, the published presets, prompts."""
