"""Held-out images: how they are made, scored, ranked and watched."""
