"""Does it learn? On a toy whose reward can be raised, in seconds."""

from dataclasses import replace

import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core import DPMpp2M, RunFolder, Scores, SlidingWindow, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.sampling.ode import sample
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings import presets

PROMPTS = ["a", "bbbb", "ccccccc"]
MIX = TrainConfig(
    iterations=25,
    steps=10,
    shift=1.0,
    images_per_prompt=8,
    prompts_per_iteration=3,
    planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=6)),
    learning_rate=2e-2,
    updates=2,
    eval_every=25,
    eval_images=16,
)


class ShuffledRed(Red):
    """The right values on the wrong images: nothing to learn."""

    def __call__(self, batch) -> Scores:
        scores = super().__call__(batch)
        return Scores(scores.values[torch.randperm(len(scores.values))], scores.valid)


def gain(config: TrainConfig, reward: Red, seed: int) -> tuple[float, float]:
    """Rise of the held-out redness, and network evaluations per image in an iteration."""
    torch.manual_seed(seed)
    model = ToyModel()
    held_out = HeldOut(
        prompts=[Prompted(prompt="zz", cond=model.encode("zz"))], sigmas=config.sigmas(), images_per_prompt=64
    )
    before = evaluate(model, held_out, {"red": Red()}).rewards["red"].mean
    nfe = [sum(report.nfe.values()) for report in train(model, PROMPTS, {"r": reward}, replace(config, seed=seed))]
    return evaluate(model, held_out, {"red": Red()}).rewards["red"].mean - before, sum(nfe) / len(nfe)


@pytest.mark.parametrize("seed", range(5))
def test_the_reward_rises_and_flash_keeps_most_of_the_rise_with_fewer_evaluations(seed: int) -> None:
    mix, cost = gain(MIX, Red(), seed)
    flash, flash_cost = gain(
        replace(MIX, planner=replace(MIX.planner, tail_ratio=0.4), tail_solver=DPMpp2M()), Red(), seed
    )
    assert mix > 0.25
    assert flash > 0.9 * mix
    assert flash_cost < 0.9 * cost


def test_shuffled_rewards_give_no_gain() -> None:
    gains = [gain(MIX, ShuffledRed(), seed)[0] for seed in range(6)]
    # A random walk moves either way: its mean over seeds is small beside the real gain of over 0.25.
    assert abs(sum(gains) / len(gains)) < 0.08


def test_two_rewards_both_rise_and_a_weight_of_zero_is_only_watched() -> None:
    def rise(weights: dict[str, float]) -> dict[str, float]:
        reports = list(
            train(
                ToyModel(),
                PROMPTS,
                {"red": Red(), "dark": Dark()},
                replace(MIX, reward_weights=weights),
                held_out=["zz"],
            )
        )
        before, after = reports[0].evaluations[0].rewards, reports[-1].evaluations[-1].rewards
        assert set(reports[0].rewards) == {name for name, weight in weights.items() if weight}
        return {name: after[name].mean - before[name].mean for name in after}

    both = rise({"red": 1.0, "dark": 1.0})
    assert both["red"] > 0.1
    assert both["dark"] > 0.1
    watched = rise({"red": 1.0, "dark": 0.0})
    assert watched["dark"] < both["dark"]


@pytest.mark.parametrize("preset", [presets.flow_grpo, presets.dance_grpo, presets.flow_grpo_fast])
def test_the_other_presets_learn_too(preset) -> None:
    small = replace(
        preset(), iterations=20, images_per_prompt=8, prompts_per_iteration=3, learning_rate=5e-2, updates=2
    )
    assert gain(replace(small, eval_every=0), Red(), 0)[0] > 0.15


def test_hybrid_inference_equals_a_loop_over_two_models() -> None:
    trained = ToyModel()
    with torch.no_grad():
        trained.up.add_(0.1)
    base = ToyModel()
    sigmas, noise = flow_sigmas(10, 3.0), trained.noise(5, 4)

    def loop(switch: int) -> torch.Tensor:
        x = noise
        for i in range(10):
            model = trained if i < switch else base
            x = model.run([0.3], lambda v, x=x, i=i: x + (sigmas[i + 1] - sigmas[i]) * v(x, sigmas[i]))
        return x

    for share, switch in ((0.0, 0), (0.34, 3), (0.8, 8), (1.0, 10)):
        found = sample(trained, 0.3, noise, sigmas, lora_share=share)
        torch.testing.assert_close(found, loop(switch), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="lora_share"):
        sample(trained, 0.3, noise, sigmas, lora_share=1.2)


def test_the_best_lora_is_the_one_with_the_highest_held_out_reward(tmp_path) -> None:
    config = replace(MIX, iterations=8, eval_every=2, checkpoint_every=100, keep=1)
    run = RunFolder.create(tmp_path / "run", config)
    reports = list(train(ToyModel(), PROMPTS, {"red": Red()}, config, held_out=["zz"], run=run))
    best = max((e for r in reports for e in r.evaluations), key=lambda e: e.rewards["red"].mean)
    assert run.latest().values["notes"]["best"]["iteration"] == best.iteration
    kept = {int(path.stem) for path in run.checkpoints}
    assert kept == {8, best.iteration}


def test_any_function_is_a_reward_and_a_script_that_is_started_again_goes_on(tmp_path) -> None:
    def redness(images: torch.Tensor, prompts: tuple[str, ...]) -> list[float]:
        return [float(image[..., 0].mean()) for image in images]

    def script(iterations: int) -> list[int]:
        config = replace(MIX, iterations=iterations, eval_every=0)
        run = RunFolder.open_or_create(tmp_path / "run", config)
        rewards = {"red": FunctionReward(redness)}
        return [report.iteration for report in train(ToyModel(), PROMPTS, rewards, config, run=run)]

    assert script(2) == [0, 1]
    assert script(4) == [2, 3]
    assert load_lora(tmp_path / "run/lora/last.safetensors").metadata["ss_optimizer"] == "AdamW"
