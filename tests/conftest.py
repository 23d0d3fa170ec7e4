from hypothesis import settings

# The same examples in every run, and no time limit per example: a busy machine is no failure.
settings.register_profile("mixgrpo", deadline=None, derandomize=True)
settings.load_profile("mixgrpo")
