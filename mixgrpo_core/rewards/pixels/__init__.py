"""Rewards that measure pixels, without a network."""
