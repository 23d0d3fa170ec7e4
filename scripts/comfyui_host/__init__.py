"""A ComfyUI for development and tests: where it comes from, its virtual environment, and running it."""
