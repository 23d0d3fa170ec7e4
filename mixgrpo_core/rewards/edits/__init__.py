"""What an edit kept of its source, and where it went."""

from .direction import DirectionalCLIP
from .preservation import PSNR, SSIM, Closeness, EditPreservation

__all__ = ["PSNR", "SSIM", "Closeness", "DirectionalCLIP", "EditPreservation"]
