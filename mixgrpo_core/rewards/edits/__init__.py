"""What an edit kept of its source, and where it went."""
