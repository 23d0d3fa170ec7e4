"""Rewards: one file per family, all behind the port of ``mixgrpo_core.reward``."""
