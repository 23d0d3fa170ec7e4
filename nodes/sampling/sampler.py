"""Mixed ODE-SDE Sampler: how MixGRPO samples, as a SAMPLER for ComfyUI's own sampling nodes."""

from comfy.samplers import KSAMPLER
from comfy_api.latest import io

from ...mixgrpo_core import FlowCPS, FrozenWindow
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.sampling.windows import Window
from ..checks import LARGEST_SEED, defaults_of, require_in_range, verdict
from ..settings.choices import choices
from ..sockets import WindowSocket
from .mixed_sampling import MixedSampling

WINDOW = [
    WindowSocket.Input(
        "window",
        optional=True,
        tooltip="A Window node. Connected, it takes the place of window_start and window_size.",
    ),
    io.Int.Input(
        "window_start",
        default=0,
        min=0,
        max=9999,
        tooltip="The first step with noise, counted from 0. Early steps decide the structure, late ones the detail.",
    ),
    io.Int.Input(
        "window_size",
        default=4,
        min=0,
        max=9999,
        tooltip="How many steps are noisy. 0 is no window: the sampler is then ComfyUI's euler (or plain DPM++ 2M).",
    ),
]
ETA = io.Float.Input(
    "eta",
    default=0.7,
    min=0.0,
    max=10.0,
    step=0.05,
    tooltip=(
        "Strength of the noise; 0 is none. Usual: FlowSDE 0.7, DanceSDE 0.3, FlowCPS 0.8 (1 at most), PreciseSDE 1, "
        "PreciseDanceSDE 0.3."
    ),
)
REST = [
    io.Float.Input(
        "tail_ratio",
        default=1.0,
        min=0.05,
        max=1.0,
        step=0.05,
        tooltip=(
            "MixGRPO-Flash: the share of the steps after the window that is kept; they are then made by DPM++ 2M. "
            "0.4 is usual, 1 keeps them all. Without a window nothing is shortened."
        ),
    ),
    io.Int.Input(
        "window_iteration",
        default=0,
        min=0,
        max=1_000_000,
        advanced=True,
        tooltip="For a connected window that moves: the iteration of the training whose window is used.",
    ),
    io.Int.Input(
        "noise_seed_offset",
        default=0,
        min=0,
        max=LARGEST_SEED,
        advanced=True,
        tooltip="Another number is other noise in the window, with the same start. The seed itself is the NOISE's.",
    ),
]


def kernels() -> dict[str, type[Kernel]]:
    """The kernels by the words of this node."""
    return {cls.__name__: cls for cls in choices(Kernel).values()}


def solvers() -> dict[str, type[Solver]]:
    """The solvers by the words of this node, which has room for short ones."""
    return {getattr(cls, "short_label", word): cls for word, cls in choices(Solver).items()}


def inputs() -> list[io.Input]:
    """The node's inputs."""
    kernel = io.Combo.Input(
        "kernel",
        options=list(kernels()),
        default="FlowSDE",
        tooltip=(
            "How a noisy step is made. FlowSDE: MixGRPO and Flow-GRPO. DanceSDE: the same noise at every level. "
            "FlowCPS: keeps the amounts of image and noise exactly. PreciseSDE, "
            "PreciseDanceSDE: FlowSDE and DanceSDE solved exactly."
        ),
    )
    solver = io.Combo.Input(
        "solver",
        options=list(solvers()),
        default="Euler",
        tooltip="How the other steps are made. DPM++ 2M is more exact with few steps.",
    )
    return [*WINDOW, kernel, ETA, solver, *REST]


class Sampler(io.ComfyNode):
    """Makes the sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_Sampler",
            display_name="Mixed ODE-SDE Sampler",
            category="MixGRPO/sampling",
            description=(
                "A sampler for flow models that adds fresh noise in a window of steps and is deterministic elsewhere: "
                "images that share a start and differ in what the window decides. Use it with SamplerCustomAdvanced or "
                "SamplerCustom. This is how MixGRPO samples while it trains."
            ),
            search_aliases=["mixgrpo sampler", "flow sde", "sde window", "variations", "dance grpo", "flash", "cps"],
            inputs=inputs(),
            outputs=[
                io.Sampler.Output(  # type: ignore[attr-defined]  # an import of the host hides its socket from checkers
                    display_name="sampler", tooltip="For SamplerCustom and SamplerCustomAdvanced."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, kernel: str | None = None, eta: float | None = None) -> bool | str:
        return verdict(lambda these: check_noise(**these), {"kernel": kernel, "eta": eta}, defaults_of(inputs()))

    @classmethod
    def execute(
        cls,
        window_start: int,
        window_size: int,
        kernel: str,
        eta: float,
        solver: str,
        tail_ratio: float,
        window_iteration: int,
        noise_seed_offset: int,
        window: Window | None = None,
    ) -> io.NodeOutput:
        check_noise(kernel, eta)
        numbers = {"window_start": window_start, "window_size": window_size, "tail_ratio": tail_ratio}
        more = {"window_iteration": window_iteration, "noise_seed_offset": noise_seed_offset}
        require_in_range(cls.define_schema().inputs, {**numbers, **more})
        if window is None and window_size:
            window = FrozenWindow(size=window_size, start=window_start)
        sampling = MixedSampling(
            window=window,
            kernel=kernels()[kernel](eta=eta),
            solver=solvers()[solver](),
            tail_ratio=tail_ratio,
            iteration=window_iteration,
            seed_offset=noise_seed_offset,
        )
        return io.NodeOutput(KSAMPLER(sampling.sample_mixed_ode_sde))


def check_noise(kernel: str | None, eta: float | None) -> None:
    """Raise ``ValueError`` when kernel and eta are none, or do not fit; None comes by wire and is not known yet."""
    require_in_range(inputs(), {"kernel": kernel, "eta": eta})
    if kernel == FlowCPS.__name__ and eta is not None and eta > 1:
        raise ValueError(f"FlowCPS takes an eta of 1 at most (1 replaces all of the noise), found {eta:g}: lower eta.")
