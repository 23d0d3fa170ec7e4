"""ComfyUI loads this file: the extension's nodes and its folder of scripts. Nothing else is imported before it asks."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension that ComfyUI registers."""
    from .nodes import MixGRPOExtension

    return MixGRPOExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
