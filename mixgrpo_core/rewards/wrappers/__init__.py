"""What wraps a reward: transforms of its scores, gates and penalties."""
