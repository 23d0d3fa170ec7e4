"""The parts of the model port over ComfyUI."""
