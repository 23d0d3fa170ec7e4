"""Memory on the command line: batches that fit before a run begins, and smaller ones where it runs out meanwhile."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from allocator import allocated
from rich.console import Console
from tiny_sd3 import load, make_folder, transformer

from mixgrpo_core.cli import memory, training
from mixgrpo_core.cli.memory import OutOfMemory, fitted
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.cli.settings import RunConfig
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.peft_lora import attach_lora
from mixgrpo_core.models.families.sd3 import SD3
from mixgrpo_core.models.families.sd3_memory import unloaded_sd3
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.activations import Activations, PassMemory
from mixgrpo_core.training.memory_need import MemoryNeed, lora_bytes

GIB = 2**30


def run_of(folder: Path, **changes: object) -> RunConfig:
    """One iteration of eight images of one prompt on the demo model."""
    small = {
        "iterations": 1,
        "steps": 4,
        "images_per_prompt": 8,
        "prompts_per_iteration": 1,
        "updates": 1,
        "planner": WindowPlanner(window=FrozenWindow(size=2, start=0)),
        "eval_every": 0,
    }
    run = RunConfig(out=str(folder), rewards={"shape": "ShapeReward()"}, train=TrainConfig(**{**small, **changes}))
    prompts = replace(
        run.prompts, train=("a large red circle in the middle",), held_out=("a small blue square at the top",)
    )
    return replace(run, prompts=prompts)


def short_of_memory(monkeypatch, most: int, training_only: bool) -> None:
    """A device that holds ``most`` rows at once: with gradients, or always."""
    network = PipelineModel._velocity

    def guarded(self, x, *rest):
        if len(x) > most and (torch.is_grad_enabled() or not training_only):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return network(self, x, *rest)

    monkeypatch.setattr(PipelineModel, "_velocity", guarded)


def test_batches_are_halved_until_they_fit_and_the_run_is_that_of_small_ones(tmp_path, monkeypatch, capsys) -> None:
    assert training.start(run_of(tmp_path / "small", update_batch=2), Console()) == 0
    with monkeypatch.context() as patch:
        short_of_memory(patch, 3, training_only=True)
        assert training.start(run_of(tmp_path / "halved", update_batch=8), Console()) == 0
    words = capsys.readouterr().out
    assert "update_batch 8 did not fit while training, 4 is tried" in words
    assert "update_batch 4 did not fit while training, 2 is tried" in words
    small, halved = (RunFolder.open(tmp_path / name).latest() for name in ("small", "halved"))
    assert halved.iteration == small.iteration == 1
    assert halved.tensors.keys() == small.tensors.keys()
    different = [name for name in small.tensors if not torch.equal(halved.tensors[name], small.tensors[name])]
    assert different in ([], ["config"]), "but for what the run was asked for"


def test_memory_that_runs_out_anywhere_halves_the_batch_at_fault(tmp_path, monkeypatch, capsys) -> None:
    """In rollouts a call halves by itself; the decoder does not, in training as in the last pictures."""
    decode = PipelineModel.decode

    def guarded(self, x, **options):
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(self, x, **options)

    monkeypatch.setattr(PipelineModel, "decode", guarded)
    short_of_memory(monkeypatch, 4, training_only=False)
    assert training.start(run_of(tmp_path / "run", decode_batch=8), Console()) == 0
    assert RunFolder.open(tmp_path / "run").latest().iteration == 1
    assert (tmp_path / "run" / "report.png").exists()


def test_where_one_image_is_too_much_the_sentence_says_what_to_lower(tmp_path, monkeypatch) -> None:
    short_of_memory(monkeypatch, 0, training_only=True)
    with pytest.raises(OutOfMemory, match=r"training one image at a time.*--model\.gradient-checkpointing$"):
        training.start(run_of(tmp_path / "run", images_per_prompt=2), Console())
    assert RunFolder.open(tmp_path / "run").latest().iteration == 0, "it can be gone on with"


def needs(sampling: float, training: float) -> MemoryNeed:
    passes = PassMemory(
        sampling=Activations(fixed=0, per_image=int(sampling * GIB)),
        training=Activations(fixed=0, per_image=int(training * GIB)),
    )
    return MemoryNeed(passes=passes, lora=0)


def test_batches_that_nobody_chose_are_lowered_to_what_fits() -> None:
    plain, checkpointed = needs(0.5, 12), needs(0.5, 1.2)
    wide = fitted(plain, checkpointed, TrainConfig(), int(60 * GIB))
    assert (wide.train.update_batch, wide.train.rollout_batch, wide.checkpointing) == (5, 16, False)
    narrow = fitted(plain, checkpointed, TrainConfig(), int(5 * GIB))
    assert (narrow.train.update_batch, narrow.train.rollout_batch, narrow.checkpointing) == (4, 10, True)
    assert "gradient checkpointing on" in narrow.words
    chosen = fitted(plain, checkpointed, TrainConfig(update_batch=7), int(60 * GIB))
    assert chosen.train.update_batch == 7, "what was chosen stays"
    roomy = fitted(plain, checkpointed, TrainConfig(images_per_prompt=4), int(60 * GIB))
    assert roomy.train.update_batch == 16, "a call has no more images than a prompt"
    pulled = fitted(plain, None, TrainConfig(objective=GRPO(kl=0.1)), int(60 * GIB))
    assert pulled.train.update_batch == 4, "the base model is asked beside the graph"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("sd3"))


def test_what_was_chosen_for_the_memory_is_in_the_run_and_a_resume_has_it(
    folder, tmp_path, monkeypatch, capsys
) -> None:
    """A real folder on a device with 8 MB free: 16 rows of training do not fit."""
    settings = run_of(tmp_path / "run", images_per_prompt=12)
    settings = replace(settings, model=replace(settings.model, folder=str(folder), rank=4, dtype="float32"))
    monkeypatch.setattr(memory, "free_memory", lambda device: 8_000_000)
    assert training.start(replace(settings, rewards={"red": "PixelReward(Brightness(), More())"}), Console()) == 0
    assert "GiB are free for it, so: update_batch" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert 1 <= kept["update_batch"] < 12
    assert kept["rollout_batch"] == 16
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    assert training.from_run(RunFolder.open(tmp_path / "run")).train.update_batch == kept["update_batch"]


def test_the_plan_tells_the_memory_of_a_folder_that_nobody_has_read(tmp_path) -> None:
    """There are no weights: only the configuration is looked at."""
    network = transformer()
    network.save_config(tmp_path / "transformer")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [8, 8]}))
    lora = attach_lora(network, SD3.linears, rank=4, alpha=None, seed=0, file=None, default_rank=32)
    found = unloaded_sd3(tmp_path, rank=4, dtype=torch.float32)
    assert found.lora == lora_bytes(lora.trained.values())
    assert found.weights + found.lora == lora_bytes(network.parameters())
    asked = RunConfig(model=ModelConfig(folder=str(tmp_path), dtype="float32"), train=TrainConfig(decode_beside=True))
    words = memory.memory_words(asked)
    assert "memory (computed): weights 0.00 GiB" in words
    assert "a group that is decoded beside a rollout adds an unknown amount" in words, "whose class it does not say"
    assert "with gradient checkpointing" in words and "without gradient checkpointing" in words
    assert memory.memory_words(RunConfig()) == "", "the demo model fits everywhere"


def test_a_group_that_is_decoded_beside_a_rollout_counts_on_top_of_it(folder) -> None:
    model = load(folder, resolution=(48, 48))
    x = model.noise(0, 6)
    assert model.decode_memory(6) == pytest.approx(allocated(lambda: model.decode(x)), rel=0.1)
    assert model.decode(x).isfinite().all(), "the count leaves nothing behind"
    counted = unloaded_sd3(folder, rank=4, resolution=(48, 48), dtype=torch.float32).decoding(6)
    assert counted == pytest.approx(model.decode_memory(6), rel=0.2), "but for copies of the latents"

    need = replace(needs(0.5, 1), decoding=3 * GIB)
    plain, beside = TrainConfig(), TrainConfig(decode_beside=True)
    assert need.sampling(beside) - need.sampling(plain) == 3 * GIB
    narrow = fitted(need, None, beside, int(5 * GIB)).train
    assert (narrow.rollout_batch, narrow.update_batch) == (4, 5)
