"""The combos of the canvas: the classes of a port by the words that a workflow keeps."""

from dataclasses import MISSING, fields

from ...mixgrpo_core.settings.kinds import SETTINGS, label_of


def choices(port: type) -> dict[str, type]:
    """The classes that can be made as they are, by their labels; a label that is taken is replaced by the name."""
    found: dict[str, type] = {}
    for cls in SETTINGS.of(port):
        if not any(item.default is MISSING and item.default_factory is MISSING for item in fields(cls)):
            found[cls.__name__ if label_of(cls) in found else label_of(cls)] = cls
    return found
