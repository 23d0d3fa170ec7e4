"""Nodes that take LoRAs: save, convert, compare."""
