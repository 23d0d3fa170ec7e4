"""People as a reward: ballots on disk, and what votes are worth."""
