"""ComfyUI loads this file: the extension's nodes and its folder of scripts. Nothing else is imported before it asks."""

import logging

WEB_DIRECTORY = "./web"
OLDEST = (0, 24, 1)  # of the versions of ComfyUI that this pack is tested with


async def comfy_entrypoint():
    """The extension that ComfyUI registers."""
    from .nodes import MixGRPOExtension

    return MixGRPOExtension()


def _say_if_the_host_is_old():
    """Some such hosts load all nodes, some load none without a word, and some log an error that explains nothing."""
    try:
        from comfyui_version import __version__ as found
    except ImportError:  # it came long before
        found = "an older one"
    numbers = found.split("+")[0].split(".")[:3]
    if not all(number.isdecimal() for number in numbers) or tuple(map(int, numbers)) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        logging.warning("MixGRPO needs ComfyUI %s or newer, and this is %s: please update ComfyUI.", oldest, found)


_say_if_the_host_is_old()

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
