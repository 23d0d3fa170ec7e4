"""Campaigns of ``make test-long``: kills, fuzz and soak, by numbered cases that can be taken up again."""
