"""Window Plan: what a run will train when, and what it will cost, before it starts."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui
from PIL import Image

from ...mixgrpo_core import DPMpp2M, TrainConfig, WindowPlanner, mixgrpo
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.pixels import rgb_of
from ...mixgrpo_core.training.run_cost import run_cost
from ...mixgrpo_core.views.figures import plan_figure
from ..settings.model_family import for_model
from ..settings.presets import with_window
from ..sockets import OpenSettings, SettingsSocket, TrainerSettings, WindowSocket
from .plan_words import coverage_words, plans_of

INPUTS = [
    WindowSocket.Input(
        "window", optional=True, tooltip="The window to draw. It takes the place of the settings' own window."
    ),
    SettingsSocket.Input(
        "settings", optional=True, tooltip="A trainer's settings. Connected, they take the place of the numbers below."
    ),
    io.Model.Input(
        "model",
        optional=True,
        tooltip="The model, for settings whose model family is auto: they are read from it.",
    ),
    io.Int.Input("steps", default=25, min=2, max=10_000, tooltip="Sampling steps of a training image."),
    io.Int.Input("iterations", default=300, min=1, max=10_000, tooltip="Rounds of sampling and training."),
    io.Int.Input(
        "images_per_prompt", default=12, min=2, max=1024, tooltip="Images that are made and compared for each prompt."
    ),
    io.Int.Input(
        "prompts_per_iteration", default=4, min=1, max=1024, advanced=True, tooltip="Prompts in one iteration."
    ),
    io.Float.Input(
        "tail_ratio",
        default=1.0,
        min=0.05,
        max=1.0,
        step=0.05,
        advanced=True,
        tooltip="The share of the steps after the window that is kept. MixGRPO-Flash has 0.4, 1 keeps all.",
    ),
    io.Float.Input(
        "shift",
        default=3.0,
        min=0.01,
        max=100.0,
        step=0.01,
        advanced=True,
        tooltip="The model's timestep shift; it bends the curve above the plan and changes nothing else.",
    ),
]


class WindowPlan(io.ComfyNode):
    """Draws and describes a plan."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_WindowPlan",
            display_name="Window Plan",
            category="MixGRPO",
            description=(
                "Draws which steps a training will train in which iteration: sampling steps from left to right, "
                "iterations from top to bottom. Says in words how often each step is trained and what the run costs "
                "beside DanceGRPO, which trains everywhere. Needs no GPU, and a model only for settings that read "
                "their family from it."
            ),
            search_aliases=["mixgrpo plan", "schedule", "cost", "nfe", "sigma curve"],
            inputs=INPUTS,
            outputs=[
                io.Image.Output(display_name="image", tooltip="The drawing."),
                io.String.Output(display_name="text", tooltip="The plan and its cost in words."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        steps: int,
        iterations: int,
        images_per_prompt: int,
        prompts_per_iteration: int,
        tail_ratio: float,
        shift: float,
        window: Window | None = None,
        settings: TrainerSettings | OpenSettings | None = None,
        model: ModelPatcher | None = None,
    ) -> io.NodeOutput:
        chosen = None if settings is None else _settled(settings, model)
        if chosen is None:
            usual = mixgrpo()
            planner = usual.planner if window is None else with_window(usual.planner, window)
            if isinstance(planner, WindowPlanner):
                planner = replace(planner, tail_ratio=tail_ratio)
            config = replace(
                usual,
                steps=steps,
                iterations=iterations,
                images_per_prompt=images_per_prompt,
                prompts_per_iteration=prompts_per_iteration,
                shift=shift,
                planner=planner,
                tail_solver=DPMpp2M() if tail_ratio < 1 else usual.tail_solver,
            )
        else:
            config = chosen.train
            if window is not None:
                config = replace(config, planner=with_window(config.planner, window))
        bar = comfy.utils.ProgressBar(1)
        plans = plans_of(config)
        cost = run_cost(config, chosen is not None and chosen.cfg > 1, lambda *at: bar.update_absolute(*at))
        image = draw(config, cost.words)
        text = f"{coverage_words(config, plans)}\n{cost.words}"
        return io.NodeOutput(image, text, ui=ui.PreviewImage(image, cls=cls))


def _settled(settings: TrainerSettings | OpenSettings, model: ModelPatcher | None) -> TrainerSettings:
    if model is not None:
        return for_model(settings, model)
    if isinstance(settings, OpenSettings):
        raise ValueError(
            "the settings read the model family from the MODEL, and none is connected: connect it to model, or choose "
            "the family in Trainer Settings"
        )
    return settings


def draw(config: TrainConfig, caption: str) -> torch.Tensor:
    """The plan as an image ``[1, H, W, 3]`` in 0..1."""
    temporary = Path(folder_paths.get_temp_directory())
    temporary.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=temporary) as folder:
        file = Path(folder) / "plan.png"
        try:
            plan_figure(config, file, caption=caption)
        except ImportError as error:
            raise RuntimeError(
                "Drawing the plan needs matplotlib, which ComfyUI does not bring: run `pip install matplotlib` with "
                "the Python of ComfyUI and start it again."
            ) from error
        with Image.open(file) as picture:
            pixels = rgb_of(picture)
    return torch.from_numpy(pixels)[None]
