"""Picture files of every mode: the same picture gives the same numbers."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixgrpo_core.rewards.networks.reference_picture import Picture
from mixgrpo_core.support.pixels import rgb_of

GREY = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
BYTES = (GREY * 255).round().astype(np.uint8)
WORDS = (GREY * 65535).round().astype(np.uint16)


def saved(folder, how):
    """A grey ramp as a file of a kind that people have."""
    byte = Image.fromarray(BYTES)
    if how == "16 bits in a PGM":
        (folder / "a.pgm").write_bytes(b"P5 6 4 65535\n" + WORDS.astype(">u2").tobytes())
        return folder / "a.pgm"
    pictures = {
        "8 bits": byte,
        "colours": byte.convert("RGB"),
        "16 bits": Image.fromarray(WORDS),
        "32 bits": Image.fromarray(WORDS.astype(np.int32)),
        "floats": Image.fromarray(GREY),
        "a palette": byte.convert("P"),
        "a transparent palette": byte.convert("P"),
        "grey and alpha": Image.merge("LA", (byte, byte)),
        "colours and alpha": Image.merge("RGBA", (byte, byte, byte, byte)),
        "ink": byte.convert("RGB").convert("CMYK"),
    }
    kind = "tif" if how in ("32 bits", "floats", "ink") else "png"
    more = {"transparency": 3} if how == "a transparent palette" else {}
    pictures[how].save(folder / f"a.{kind}", **more)
    return folder / f"a.{kind}"


KINDS = [
    *("8 bits", "colours", "16 bits", "16 bits in a PGM", "32 bits", "floats", "a palette", "a transparent palette"),
    *("grey and alpha", "colours and alpha", "ink"),
]


@pytest.mark.parametrize("how", KINDS)
def test_every_mode_gives_the_same_picture(tmp_path, how):
    found = Picture(str(saved(tmp_path, how))).image
    assert (found.dtype, found.shape) == (torch.float32, (4, 6, 3))
    torch.testing.assert_close(found, torch.from_numpy(GREY)[..., None].expand(4, 6, 3), rtol=0, atol=0.5 / 255 + 1e-6)
    if how in ("16 bits", "16 bits in a PGM", "32 bits", "floats"):
        torch.testing.assert_close(found[..., 1], torch.from_numpy(GREY), rtol=0, atol=1e-5)


def test_a_16_bit_tiff_is_read_too_in_either_order_of_bytes(tmp_path):
    Image.fromarray(WORDS).save(tmp_path / "a.tif")
    Image.fromarray(WORDS.astype(">u2")).save(tmp_path / "b.tif")
    for name in ("a.tif", "b.tif"):
        assert np.allclose(Picture(str(tmp_path / name)).image[..., 0], GREY, atol=1e-5)


def test_black_and_white_are(tmp_path):
    Image.fromarray(BYTES > 127).save(tmp_path / "a.png")
    assert np.array_equal(Picture(str(tmp_path / "a.png")).image[..., 0], (BYTES > 127).astype(np.float32))


def test_16_bits_are_turned_as_the_camera_says(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right
    Image.fromarray(WORDS).save(tmp_path / "a.png", exif=turned)
    assert np.allclose(Picture(str(tmp_path / "a.png")).image[..., 0], np.rot90(GREY, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (GREY * 255, r"numbers in 0..1 .* mode F, found 0 to 255: scale it"),
        (GREY - 0.5, "found -0.5 to 0.5"),
        (GREY * np.float32("nan"), "found nan"),
        (BYTES.astype(np.int32), "some of them above 255, .* found 0 to 255"),
        (WORDS.astype(np.int32) * 2, "found 0 to 131070"),
    ],
)
def test_numbers_of_an_unknown_range_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=words):
        _ = Picture(str(tmp_path / "a.tif")).image


def test_all_black_is_black_in_every_mode():
    for kind in (np.uint16, np.int32, np.float32):
        assert not rgb_of(Image.fromarray(np.zeros((2, 2), kind))).any()
