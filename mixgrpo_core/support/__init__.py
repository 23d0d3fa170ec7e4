"""The ground: seeds, files, objects as text, batches that fit, seconds by phase."""
