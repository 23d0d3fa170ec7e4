"""The training on the canvas in this process: lack of memory, lack of room, what a run is recognised by."""

import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from canvas import loaded, policy, prompt_set, short_config
from comfy.patcher_extension import WrappersMP
from mixgrpo_pack.mixgrpo_core.models.lora import export_lora
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_pack.mixgrpo_core.runs.folder import RunError
from mixgrpo_pack.mixgrpo_core.training.pace import Pace
from mixgrpo_pack.mixgrpo_core.training.workload import Workload
from mixgrpo_pack.nodes.host.identity import model_digest
from mixgrpo_pack.nodes.live.board import LiveRun
from mixgrpo_pack.nodes.live.canvas_run import CanvasRun
from mixgrpo_pack.nodes.training.loop import OutOfMemory, Training
from mixgrpo_pack.nodes.training.runs import open_run, require_writable, state_of_runs


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture
def output(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    return tmp_path


def short_of_memory(model, most, training_only=False):
    """The MODEL on a device that holds ``most`` rows at once, with gradients or always."""
    small = model.clone()

    def guarded(apply, x, *rest, **options):
        if len(x) > most and (torch.is_grad_enabled() or not training_only):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return apply(x, *rest, **options)

    small.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "small", guarded)
    return small


def go(model, clip, vae, config, name="run", **settings):
    run, config = open_run(name, config, {})
    prompts = prompt_set(clip)
    live = LiveRun(
        run=name,
        node="1",
        folder=run.path,
        iterations=config.iterations,
        plan_of=config.plan,
        sigmas=config.sigmas(),
        pace=Pace(Workload(config)),
    )
    with torch.inference_mode(), policy(model, clip, vae, **settings) as home, live:
        training = Training(home, prompts, {"shape": ShapeReward()}, config, run, live)
        training.go()
    return training, run


def test_batches_are_halved_until_they_fit_and_the_run_is_whole(parts, output):
    base, clip, vae = parts
    config = short_config(rollout_batch=8, update_batch=8, images_per_prompt=8, prompts_per_iteration=1, updates=1)
    training, run = go(short_of_memory(base, 3), clip, vae, config)
    assert (training.config.rollout_batch, training.config.update_batch) == (2, 2)
    assert [report["iteration"] for report in run.metrics()] == [0, 1]
    only, run = go(short_of_memory(base, 4, training_only=True), clip, vae, config, "only")
    assert (only.config.rollout_batch, only.config.update_batch) == (8, 4), "the batch at fault and no other"


def test_at_one_image_the_message_says_what_to_lower(parts, output):
    base, clip, vae = parts
    with pytest.raises(OutOfMemory, match=r"training one image at a time: choose a smaller width") as found:
        go(short_of_memory(base, 0, training_only=True), clip, vae, short_config(), "none")
    assert "checkpointing" in str(found.value)
    with torch.inference_mode():
        _, run = go(base, clip, vae, short_config(), "none")
    assert len(run.metrics()) == 2, "the run goes on when there is room"


def test_a_folder_that_cannot_be_written_is_told_before(output):
    (output / "mixgrpo").write_text("a file in the folder's place")
    with pytest.raises(RunError, match="cannot write to"):
        require_writable(output / "mixgrpo")


def test_a_run_is_recognised_by_its_settings_and_left_alone_otherwise(output):
    config = short_config()
    first, _ = open_run("a", config, {"model": "x"})
    assert open_run("a", config, {"model": "x"})[0].path == first.path
    other, _ = open_run("a", config, {"model": "y"})
    assert other.path.name == "a-2"
    assert open_run("a", config, {"model": "x"})[0].path == first.path
    longer, found = open_run("a", short_config(iterations=9), {"model": "x"})
    assert (longer.path, found.iterations) == (first.path, 9)
    (first.path / "config.json").write_text("{ torn")
    assert open_run("a", config, {"model": "x"})[0].path.name == "a-3", "an unreadable run is never written over"


def test_a_run_that_decodes_in_float32_goes_on_so(output):
    plain = short_config()
    first, _ = open_run("plain", plain, {})
    found, config = open_run("plain", short_config(decode_dtype="auto", iterations=9), {})
    assert found.path == first.path and (config.decode_dtype, config.iterations) == ("float32", 9)
    other, config = open_run("new", short_config(decode_dtype="auto"), {})
    assert config.decode_dtype == "auto" and open_run("new", plain, {})[0].path != other.path


def test_fewer_iterations_than_done_leave_a_run_as_it_is(parts, output):
    _, run = go(*parts, short_config())
    found, config = open_run("run", short_config(iterations=1), {})
    assert (found.path, found.done, config.iterations) == (run.path, 2, 2)


def test_a_run_whose_checkpoints_are_gone_is_refused_and_its_lora_stays(output):
    run, config = open_run("bare", short_config(), {})
    run.lora("last").parent.mkdir(parents=True, exist_ok=True)
    run.lora("last").write_bytes(b"trained")
    with pytest.raises(RunError, match="expected the checkpoints of .*bare"):
        open_run("bare", config, {})
    assert run.lora("last").read_bytes() == b"trained"


def test_state_of_runs_changes_with_every_checkpoint_and_with_a_deleted_folder(parts, output):
    states = [state_of_runs("run")]
    go(*parts, short_config())
    states.append(state_of_runs("run"))
    go(*parts, short_config(iterations=3))
    states.append(state_of_runs("run"))
    assert len({repr(state) for state in states}) == 3
    assert state_of_runs("run") == states[-1]


def _digest(model):
    return model_digest(model, "diffusion_model")


def test_a_model_is_recognised_loaded_or_not_and_with_what_it_carries(parts, tmp_path):
    base = parts[0]
    before = _digest(base)
    with policy(*parts) as home:
        home.load_lora_state({name: torch.randn_like(t) for name, t in home.lora_state().items()})
        file = export_lora(home, tmp_path / "lora.safetensors", {})
        home.run([home.encode("a small red circle on the left")], lambda v: v(home.noise(0, 1), torch.tensor(0.5)))
        assert _digest(base) == before
    with torch.inference_mode():
        state = comfy.utils.load_torch_file(str(file))
        strong, _ = comfy.sd.load_lora_for_models(base, None, state, 1.0, 0.0)
        weak, _ = comfy.sd.load_lora_for_models(base, None, state, 0.5, 0.0)
        again, _ = comfy.sd.load_lora_for_models(base, None, state, 1.0, 0.0)
        beside, _ = comfy.sd.load_bypass_lora_for_models(base, None, state, 1.0, 0.0)
    guided = base.clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    digests = [_digest(model) for model in (base, strong, weak, beside, guided)]
    assert len(set(digests)) == 5
    assert _digest(again) == digests[1]
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([strong])
    assert _digest(strong) == digests[1]
    fresh = loaded()[0]
    assert _digest(fresh) == before
    fresh.model.diffusion_model.joint_blocks[0].x_block.attn.qkv.weight.data.mul_(1.01)
    assert _digest(fresh) != before


def test_a_lora_of_the_canvas_lies_where_loaders_look(output):
    run, _ = open_run("b", short_config(), {})
    assert isinstance(run, CanvasRun)
    assert run.lora("last") == output / "loras" / "mixgrpo" / "b-last.safetensors"
