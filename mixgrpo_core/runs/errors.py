"""What is wrong with a run on disk."""


class RunError(RuntimeError):
    """A run folder that cannot be used; the sentence says why and what to do."""
