"""Image embeddings, and the rewards that are made of them alone."""
