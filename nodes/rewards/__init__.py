"""Rewards as nodes: one file a family; `combine`, `changes` and `score` take any of them."""
