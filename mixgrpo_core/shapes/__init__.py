"""The shapes world: captions, drawings and a detector that learns nothing. The lowest layer: numpy, PIL, torch."""
