"""Window: which steps are noisy and trained, and how that changes while a run goes on."""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from comfy_api.latest import io

from ...mixgrpo_core import DecayingWindow, FrozenWindow
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.setting import fields_of
from ..checks import LARGEST_SEED, defaults_of, require_chosen, require_in_range, verdict
from ..settings.choices import choices
from ..sockets import WindowSocket

STRIDE = io.Int.Input("stride", default=1, min=1, max=999, tooltip="How many steps the window moves at a time.")
HOLD = io.Int.Input("hold", default=25, min=1, max=100_000, tooltip="Iterations before the window moves; 25 is usual.")
HOLD_AT_START = io.Int.Input("hold", default=25, min=1, max=100_000, tooltip="Iterations the window stays at step 0.")
WRAP = io.Boolean.Input(
    "wrap", default=False, tooltip="At the end, go back to step 0. Otherwise the window stays at its last place."
)
LAST = io.Int.Input(
    "last_start",
    default=-1,
    min=-1,
    max=9999,
    tooltip="The furthest step at which the window may start; -1 lets it go as far as the steps allow.",
)
SEED = io.Int.Input(
    "seed",
    default=0,
    min=0,
    max=LARGEST_SEED,
    control_after_generate=False,  # a window that changes after every run would make every run a new one
    tooltip="Another seed, another order of places.",
)
SHORTEST = io.Int.Input(
    "shortest", default=1, min=1, max=100_000, tooltip="The fewest iterations at any place; hold at most."
)
RATE = io.Float.Input(
    "rate",
    default=0.0,
    min=0.0,
    max=10.0,
    step=0.01,
    tooltip=(
        "0: the stay shortens evenly from hold to shortest. Above 0: it shrinks exponentially, by this rate per step "
        "after the threshold (0.1 in the published runs)."
    ),
)
THRESHOLD = io.Int.Input(
    "threshold", default=13, min=0, max=9999, tooltip="Only with a rate: the step after which the stay shrinks."
)
RATIO = io.Float.Input(
    "ratio",
    default=0.5,
    min=0.01,
    max=1.0,
    step=0.01,
    tooltip="How much less likely each next step is as the start than the one before; 1: all alike.",
)

INPUTS = {"stride": STRIDE, "hold": HOLD, "wrap": WRAP, "last": LAST, "seed": SEED}
INPUTS |= {"shortest": SHORTEST, "rate": RATE, "threshold": THRESHOLD, "ratio": RATIO}
"""Of the settings of windows, by name. Another window's settings that are called the same mean the same."""
_UNSET = {"last": -1, "rate": 0}
"""What stands for None."""
_SHARED = ("size", "start")


def strategies() -> list[io.DynamicCombo.Option]:
    """The windows, and the inputs of each."""
    return [io.DynamicCombo.Option(word, inputs_of(cls)) for word, cls in choices(Window).items()]


def inputs_of(cls: type[Window]) -> list[io.Input]:
    """The inputs of a window's settings, besides those that all have."""
    made = (_input(cls, item) for item in fields_of(cls) if item.name not in _SHARED)
    return [item for item in made if item is not None]


def _input(cls: type[Window], item: Field) -> io.Input | None:
    if item.name == "hold" and cls is DecayingWindow:
        return HOLD_AT_START
    if item.name in INPUTS:
        return INPUTS[item.name]
    kinds = {bool: io.Boolean.Input, int: io.Int.Input, float: io.Float.Input, str: io.String.Input}
    kind, words = kinds.get(type(item.default)), f"A setting of {cls.__name__}."
    if kind is None:  # it stays as the class has it
        return None
    steps = {"step": 0.01} if kind is io.Float.Input else {}
    return kind(item.name, default=item.default, tooltip=words, **steps)


def _strategy() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "strategy",
        options=strategies(),
        tooltip=(
            "slide: from structure to detail, as MixGRPO does. random: another place in every iteration. "
            "fixed: stays where it is. slow start: slides, ever faster. mostly early: another place in "
            "every iteration, mostly near the start."
        ),
    )


class WindowNode(io.ComfyNode):
    """Makes a window."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Window",
            display_name="Window",
            category="MixGRPO",
            description=(
                "The steps that get noise and are trained. Early steps decide an image's structure, late ones its "
                "detail. The last step never gets noise, because that would stay in the image. The bar draws start and "
                "size and lets you drag them."
            ),
            search_aliases=["mixgrpo window", "sde window", "sliding window", "trained steps"],
            inputs=[
                io.Int.Input(
                    "start",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="Where a fixed window stands, counted from 0. A window that moves begins at 0.",
                ),
                io.Int.Input("size", default=4, min=1, max=9999, tooltip="How many steps it covers; 4 is usual."),
                io.Int.Input(
                    "steps",
                    default=25,
                    min=2,
                    max=10_000,
                    tooltip="Sampling steps to draw and to check the window against. Training and sampling set theirs.",
                ),
                _strategy(),
            ],
            outputs=[WindowSocket.Output(display_name="window", tooltip="For the sampler, the trainer and the plan.")],
        )

    @classmethod
    def validate_inputs(
        cls, start: int | None = None, size: int | None = None, steps: int | None = None, strategy: dict | None = None
    ) -> bool | str:
        try:
            require_chosen(_strategy(), strategy)
        except ValueError as error:
            return str(error)
        if start is None or size is None or steps is None or strategy is None:
            return True  # comes from another node: known when it runs
        kind, values = strategy["strategy"], {"start": start, "size": size, "steps": steps}
        return verdict(lambda these: check_place(**these, kind=kind), values, defaults_of(cls.define_schema().inputs))

    @classmethod
    def execute(cls, start: int, size: int, steps: int, strategy: dict) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"start": start, "size": size, "steps": steps})
        check_place(start, size, steps, strategy["strategy"])
        [shown] = [option.inputs for option in strategies() if option.key == strategy["strategy"]]
        require_in_range(shown, strategy)
        return io.NodeOutput(make_window(start, size, strategy))


def check_place(start: int, size: int, steps: int, kind: str) -> None:
    """ValueError, in words for the node, unless the window fits and a moving one begins at 0."""
    if start and not any(item.name == "start" for item in fields_of(choices(Window)[kind])):
        raise ValueError(
            f"A window that moves begins at step 0, found start = {start}: "
            f"set start to 0, or the strategy to {FrozenWindow.label!r}."
        )
    FrozenWindow(size=size, start=start).at(0, steps)


def make_window(start: int, size: int, strategy: Mapping[str, Any]) -> Window:
    """The core's window for the widgets' values; ``strategy`` holds its own name and its option's inputs."""
    cls = choices(Window)[strategy["strategy"]]
    names = {item.name for item in fields_of(cls)}
    values = {"size": size, "start": start, **{_setting(name): value for name, value in strategy.items()}}
    given = {name: value for name, value in values.items() if name in names}
    return cls(**{name: None if _is_unset(name, value) else value for name, value in given.items()})


def _setting(name: str) -> str:
    """The setting of an input."""
    return "last" if name == LAST.id else name


def _is_unset(name: str, value: object) -> bool:
    return name in _UNSET and isinstance(value, int | float) and value <= _UNSET[name]
