"""The node that makes a run's settings out of a preset, a model family and the memory there is."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...mixgrpo_core import FrozenWindow
from ...mixgrpo_core.sampling.windows import Window
from ..checks import defaults_of, require_in_range, require_wires, verdict
from ..sockets import OpenSettings, SettingsSocket
from .build import numbers_and_choices, possible
from .inputs import BY_HAND, FROM_PRESET, settings_inputs
from .words import summary


class TrainerSettingsNode(io.ComfyNode):
    """Settings of a training run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TrainerSettings",
            display_name="Trainer Settings",
            category="MixGRPO",
            description=(
                "How the LoRA is trained. Choose an algorithm and your GPU's memory; the other widgets show the "
                "values that follow. 0 means: as the preset has it."
            ),
            search_aliases=[
                "mixgrpo settings",
                "training settings",
                "fine-tune settings",
                "fine tuning settings",
                "grpo config",
                "flash",
                "dancegrpo",
                "flow-grpo",
            ],
            inputs=settings_inputs(),
            outputs=[
                SettingsSocket.Output(display_name="settings", tooltip="For the trainer."),
                io.String.Output(display_name="summary", tooltip="What the settings come to, in words."),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types: Mapping[str, str] | None = None, **values):
        wired = input_types or {}
        if (values.get("details") or {}).get("details") not in (FROM_PRESET, BY_HAND):
            return f"details: expected one of {FROM_PRESET}, {BY_HAND}, found none of them"
        items = numbers_and_choices()
        defaults = defaults_of(items)

        def check(values: Mapping[str, Any]) -> None:
            require_wires(cls.define_schema().inputs, wired)
            require_in_range(items, values)
            if wired.keys() <= {"window"}:  # the window's own fit shows when it is there
                possible({**defaults, **values}, FrozenWindow(size=1) if wired else None)

        return verdict(check, flat(values), defaults)

    @classmethod
    def execute(cls, window: Window | None = None, **values) -> io.NodeOutput:
        values = flat(values)
        items = numbers_and_choices()
        require_in_range(items, values)  # numbers that came by wire
        values = {**defaults_of(items), **values}
        found = possible(values, window)
        settings = found[0] if len(found) == 1 else OpenSettings(values=values, window=window)
        return io.NodeOutput(settings, summary(found, values))


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The details beside the other values; none of them where they are the preset's.

    The host hands on None for a detail that a workflow does not name.
    """
    details = values.get("details") or {}
    shown = {name: value for name, value in details.items() if name != "details" and value is not None}
    rest = {name: value for name, value in values.items() if name != "details"}
    return {**rest, **shown} if details.get("details") == BY_HAND else rest
