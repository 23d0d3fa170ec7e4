"""Devices as users name them."""

import torch


def usable_device(name: str, setting: str) -> str:
    """A device on which one number can be kept and read. Raises ``ValueError`` that names the ``setting``."""
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"expected {setting} to be a device of this machine such as cpu or cuda, found {name!r}, which cannot "
            f"be used ({reason}): choose another or leave it out"
        ) from error
    return name
