"""The trainer, and the check of what fits into memory."""
