"""SigLIP: how well an image fits its prompt."""
