"""Image classifiers in the format of the hub."""
