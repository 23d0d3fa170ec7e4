"""Runs of the toy that are cut and gone on with, for what planners and prompt sources remember."""

from dataclasses import dataclass, field

import torch
from toy import Red, ToyModel

from mixgrpo_core import TrainConfig
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted
from mixgrpo_core.runs.checkpoint import Snapshot, TrainState, read_checkpoint, write_checkpoint
from mixgrpo_core.runs.reports import GroupScored, Progress
from mixgrpo_core.training.iteration import Iteration
from mixgrpo_core.training.loop import adamw
from mixgrpo_core.training.session import Session

SMALL = TrainConfig(
    steps=6,
    images_per_prompt=3,
    prompts_per_iteration=2,
    updates=1,
    learning_rate=0.05,
    eval_every=1,
    eval_images=1,
)


class Cut(Exception):
    """Somebody ended the run."""


@dataclass
class Story:
    """What became of a run: its last state, and the prompts and memories of every iteration."""

    snapshot: Snapshot | None = None
    prompts: list = field(default_factory=list)
    memories: list = field(default_factory=list)
    reports: list = field(default_factory=list)


def played(config, prompts, folder, *, resumed_at=(), cut_at=()):
    """A run of the toy on ``prompts``.

    Before the iterations ``resumed_at`` its state goes through a checkpoint file into a model, an optimizer and rewards
    of another seed. The iterations ``cut_at`` are interrupted at their end, put back, and done again.
    """
    story, state, cut = Story(), _fresh(config, 0), set(cut_at)
    while state.iteration < config.iterations:
        if state.iteration in resumed_at:
            write_checkpoint(folder / "state.safetensors", state.capture())
            state = _fresh(config, 1 + state.iteration)
            state.restore(read_checkpoint(folder / "state.safetensors"))
        session, seen = Session(state, config, None, 0), []
        session.begin()
        try:
            report = _iteration(state, prompts, config, seen, state.iteration in cut).run()
        except Cut:
            cut.remove(state.iteration)
            session.close()
            continue
        session.finish(report)
        story.reports.append(report)
        story.prompts.append(seen)
        story.memories.append(state.notes.get("learned", {}))
    story.snapshot = state.capture()
    return story


def _fresh(config, seed):
    model = ToyModel(seed)
    return TrainState(model, adamw(model.parameters(), config), {"red": Red()})


def _iteration(state, prompts, config, seen, cut):
    def observer(event):
        if isinstance(event, GroupScored):
            seen.append(prompts.index(event.prompt))
        if cut and isinstance(event, Progress) and event.phase == "evaluation" and seen:
            raise Cut

    pool = {place: Prompted(prompt=prompt, cond=state.model.encode(prompt)) for place, prompt in enumerate(prompts)}
    held_out = HeldOut(
        prompts=[Prompted(prompt="zz", cond=state.model.encode("zz"))], sigmas=config.sigmas(), images_per_prompt=1
    )
    return Iteration(state, pool, len(prompts), config, held_out, observer)


def assert_same_story(one, two):
    """Bit for bit, but for the global generators, which an interrupted iteration leaves to its process."""
    assert one.prompts == two.prompts
    assert one.memories == two.memories
    found, expected = one.snapshot, two.snapshot
    names = {name for name in expected.tensors if not name.startswith("random")}
    assert names == {name for name in found.tensors if not name.startswith("random")}
    assert not [name for name in sorted(names) if not torch.equal(found.tensors[name], expected.tensors[name])]
    assert found.values["notes"] == expected.values["notes"]
    assert found.values["optimizer"] == expected.values["optimizer"]
