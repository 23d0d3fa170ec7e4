"""Nodes that sample: the mixed ODE-SDE sampler, the window, and the drawing of a plan."""
