"""CLIP: files of every layout, its two towers, and the rewards that compare a picture with its prompt."""
