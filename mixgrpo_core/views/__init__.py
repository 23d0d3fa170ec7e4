"""Drawings of a run, and sheets of images."""
