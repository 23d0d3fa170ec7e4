"""Rewards that measure pixels, as nodes: plain properties, and colours."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards import PixelReward
from ...mixgrpo_core.rewards.pixels.measures import (
    Brightness,
    Colourfulness,
    Contrast,
    Goal,
    JpegSize,
    Less,
    Measure,
    More,
    Near,
    Saturation,
    Sharpness,
    Symmetry,
    Tileability,
)
from ...mixgrpo_core.rewards.pixels.palette import ColourShare, Palette
from ..checks import require_in_range
from ..sockets import one_reward, reward_output, weight_input

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "brightness": Brightness(),
        "contrast": Contrast(),
        "saturation": Saturation(),
        "colourfulness": Colourfulness(),
        "sharpness": Sharpness(),
        "symmetry": Symmetry(),
        "tileability": Tileability(),
        "JPEG size": JpegSize(),
    }
)
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "brightness": "0 black, 1 white",
        "contrast": "0 flat, 0.5 black and white",
        "saturation": "0 grey, 1 pure colours",
        "colourfulness": "0 grey, 33 moderate, 59 quite colourful, 109 extreme",
        "sharpness": "a soft image has below 100, a crisp one 1000",
        "symmetry": "1 equals its mirror image",
        "tileability": "1 has no seam",
        "JPEG size": "bits per pixel, 1 to 8",
    }
)
NEAR_PALETTE, COLOUR_SHARE = "near the palette", "share of the first colour"
PALETTE = (NEAR_PALETTE, COLOUR_SHARE)
GOALS = ("more", "less", "near the target")


class PixelRewardNode(io.ComfyNode):
    """A reward that measures pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        units = "; ".join(f"{name}: {unit}" for name, unit in UNITS.items())
        return io.Schema(
            node_id="MixGRPO_PixelReward",
            display_name="Pixel Reward",
            category="MixGRPO/rewards",
            description=(
                "Rewards a plain property of the image: brightness, contrast, colour, sharpness, symmetry, tiling, "
                "detail. Needs no download. Each is easily overdone: ask for 'near the target', or combine it with "
                "other rewards."
            ),
            search_aliases=["mixgrpo reward", "brightness reward", "sharpness", "colorfulness", "aesthetic", "score"],
            inputs=[
                io.Combo.Input("measure", options=list(MEASURES), default="colourfulness", tooltip="What is measured."),
                io.Combo.Input(
                    "goal",
                    options=list(GOALS),
                    default=GOALS[0],
                    tooltip="More of it, less of it, or as near as possible to the target.",
                ),
                io.Float.Input(
                    "target",
                    default=0.5,
                    min=0.0,
                    max=100_000.0,
                    step=0.01,
                    tooltip=f"How much is wanted, where the goal is 'near the target'. {units}.",
                ),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, measure, goal, target, weight) -> io.NodeOutput:
        values = {"measure": measure, "goal": goal, "target": target, "weight": weight}
        require_in_range(cls.define_schema().inputs, values)
        goals: Mapping[str, Goal] = dict(zip(GOALS, (More(), Less(), Near(target)), strict=True))
        name = measure if goal == GOALS[0] else f"{measure} ({goal if goal == GOALS[1] else f'near {target:g}'})"
        return one_reward(name, PixelReward(MEASURES[measure], goals[goal]), weight)


class PaletteRewardNode(io.ComfyNode):
    """A reward for colours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_PaletteReward",
            display_name="Palette Reward",
            category="MixGRPO/rewards",
            description=(
                "Rewards images in your colours: all pixels near a palette, or one colour on a share of the picture. "
                "Needs no download."
            ),
            search_aliases=["mixgrpo reward", "palette", "colour", "color", "brand colors"],
            inputs=[
                io.String.Input(
                    "colours",
                    default="#0b3954 #bfd7ea #ff6663",
                    tooltip="#rrggbb, one or more, with spaces or commas between them.",
                ),
                io.Combo.Input(
                    "measure",
                    options=list(PALETTE),
                    default=NEAR_PALETTE,
                    tooltip="Every pixel near one of the colours; or how much of the picture has the first colour.",
                ),
                io.Float.Input(
                    "share",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=f"Where the measure is {COLOUR_SHARE!r}: the share that is wanted.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=0.1,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="How far off a colour may be: 0.02 is just seen, black and white are 1 apart.",
                ),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, colours=None) -> bool | str:
        try:
            if colours is not None:
                Palette(_colours(colours))
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, colours, measure, share, tolerance, weight) -> io.NodeOutput:
        values = {"measure": measure, "share": share, "tolerance": tolerance, "weight": weight}
        require_in_range(cls.define_schema().inputs, values)
        wanted = _colours(colours)
        Palette(wanted, tolerance)  # an empty list is refused whichever measure is chosen
        if measure == NEAR_PALETTE:
            name, reward = "palette", PixelReward(Palette(wanted, tolerance))
        else:
            name, reward = f"share of {wanted[0]}", PixelReward(ColourShare(wanted[0], tolerance), Near(share))
        return one_reward(name, reward, weight)


def _colours(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())
