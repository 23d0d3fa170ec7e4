"""Text that is to be read in the image."""
