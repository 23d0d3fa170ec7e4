"""Where the core meets diffusers: model folders, networks, peft."""
