"""What rewards with a network share: weight files, towers, preprocessing, and where networks live."""

from .places import Offloaded, Placement, Released, Resident
from .reference_picture import Picture, PictureSource

__all__ = ["Offloaded", "Picture", "PictureSource", "Placement", "Released", "Resident"]
