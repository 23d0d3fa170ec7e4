"""Window: which steps are noisy and trained, and how that changes while a run goes on."""

from comfy_api.latest import io

from ...mixgrpo_core import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow
from ...mixgrpo_core.sampling.windows import Window
from ..sockets import WindowSocket

SLIDE, RANDOM, FIXED, SLOW_START = "slide", "random", "fixed", "slow start"

STRIDE = io.Int.Input("stride", default=1, min=1, max=999, tooltip="How many steps the window moves at a time.")
HOLD = io.Int.Input(
    "hold", default=25, min=1, max=100_000, tooltip="Iterations before the window moves. The paper's best is 25."
)
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
    max=2**31 - 1,
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

STRATEGIES = [
    io.DynamicCombo.Option(SLIDE, [STRIDE, HOLD, WRAP, LAST]),
    io.DynamicCombo.Option(RANDOM, [SEED, LAST]),
    io.DynamicCombo.Option(FIXED, []),
    io.DynamicCombo.Option(SLOW_START, [STRIDE, HOLD_AT_START, WRAP, LAST, SHORTEST, RATE, THRESHOLD]),
]


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
                io.Int.Input(
                    "size", default=4, min=1, max=9999, tooltip="How many steps it covers; the paper takes 4."
                ),
                io.Int.Input(
                    "steps",
                    default=25,
                    min=2,
                    max=10_000,
                    tooltip="Sampling steps to draw and to check the window against. Training and sampling set theirs.",
                ),
                io.DynamicCombo.Input(
                    "strategy",
                    options=STRATEGIES,
                    tooltip=(
                        "slide: from structure to detail, the paper's. random: another place in every iteration. "
                        "fixed: stays where it is. slow start: slides, ever faster."
                    ),
                ),
            ],
            outputs=[WindowSocket.Output(display_name="window", tooltip="For the sampler, the trainer and the plan.")],
        )

    @classmethod
    def validate_inputs(
        cls, start: int | None = None, size: int | None = None, steps: int | None = None, strategy: dict | None = None
    ) -> bool | str:
        if None in (start, size, steps, strategy):
            return True  # comes from another node: known when it runs
        try:
            check_place(start, size, steps, strategy["strategy"])
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, start: int, size: int, steps: int, strategy: dict) -> io.NodeOutput:
        check_place(start, size, steps, strategy["strategy"])
        return io.NodeOutput(make_window(start, size, strategy))


def check_place(start: int, size: int, steps: int, kind: str) -> None:
    """ValueError, in words for the node, unless the window fits and a moving one begins at 0."""
    if kind != FIXED and start:
        raise ValueError(
            f"A window that moves begins at step 0, found start = {start}: "
            f"set start to 0, or the strategy to {FIXED!r}."
        )
    FrozenWindow(size=size, start=start).at(0, steps)


def make_window(start: int, size: int, strategy: dict) -> Window:
    """The core's window for the widgets' values; ``strategy`` holds its own name and its option's inputs."""
    kind = strategy["strategy"]
    if kind == FIXED:
        return FrozenWindow(size=size, start=start)
    last = None if strategy["last_start"] < 0 else strategy["last_start"]
    if kind == RANDOM:
        return RandomWindow(size=size, seed=strategy["seed"], last=last)
    sliding = SlidingWindow(
        size=size, stride=strategy["stride"], hold=strategy["hold"], wrap=strategy["wrap"], last=last
    )
    if kind == SLIDE:
        return sliding
    return DecayingWindow(
        **vars(sliding),
        shortest=strategy["shortest"],
        rate=strategy["rate"] or None,
        threshold=strategy["threshold"],
    )
