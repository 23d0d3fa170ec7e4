"""Python's garbage collector while much is imported."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: the garbage collector waits until they are over.

    torch and diffusers make a million objects that stay, and looking through them again and again takes a fifth of the
    time of importing them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # all of it counts as old now: collecting what is young does not look through it
        if was_on:
            gc.enable()
