"""Nodes that say what a training is to do: its settings and its prompts."""
