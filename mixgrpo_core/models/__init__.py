"""Models behind the port: where the core meets diffusers."""
