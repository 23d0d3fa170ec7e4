"""The parts of the model port over ComfyUI; ``touched.md`` lists what of ComfyUI's insides they touch."""
