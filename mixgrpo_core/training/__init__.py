"""Training: one iteration after another, resumable at any moment."""
