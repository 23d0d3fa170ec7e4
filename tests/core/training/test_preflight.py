"""Mistakes cost a sentence - what is expected, what was found, how to mend it - and nothing else."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core import (
    GRPO,
    DanceSDE,
    DecayingWindow,
    FlowCPS,
    FlowSDE,
    FrozenWindow,
    FullPlanner,
    GuardGRPO,
    RandomWindow,
    RunFolder,
    SlidingWindow,
    TrainConfig,
    WindowPlanner,
    train,
)
from mixgrpo_core.advantages import (
    Inside,
    MaskCredit,
    NoveltyBonus,
    ParetoCredit,
    PromptMask,
    TimeCredit,
    WeightedAdvantages,
)
from mixgrpo_core.objectives import (
    AWM,
    CRD,
    DGPO,
    FPO,
    GCPO,
    RAM,
    VGRPO,
    DiffusionNFT,
    FlatGradient,
    PositionalGRPO,
    VelocityKL,
)
from mixgrpo_core.rewards import Context
from mixgrpo_core.rewards.port import RewardInfo
from mixgrpo_core.runs.folder import RunError
from mixgrpo_core.sampling import BranchPlanner, IsoTemporalPlanner, OdePlanner, TreePlanner
from mixgrpo_core.sampling.planners import Step, StepPlan
from mixgrpo_core.settings.prompt_sources import PocaCurriculum, Shuffled

SMALL = TrainConfig(steps=6, images_per_prompt=4, prompts_per_iteration=1, iterations=1, eval_every=0)

CONFIG = TrainConfig(
    iterations=2,
    steps=4,
    images_per_prompt=2,
    prompts_per_iteration=1,
    planner=WindowPlanner(window=SlidingWindow(size=2)),
    updates=1,
)
GOOD = {
    "model": ToyModel,
    "prompts": ["a red circle", "a blue square"],
    "rewards": {"red": Red(), "dark": Dark()},
    "config": CONFIG,
    "held_out": ["a green star"],
}


class Bare(ToyModel):
    def parameters(self):
        return []


class Needy(ToyModel):
    min_steps = 9


class Flat(ToyModel):
    latent_shape = (3, 0, 2)


class Watchful(Red):
    """Knows whether anybody spoke to it."""

    def __init__(self):
        self.heard = []

    def prepare(self, prompts):
        self.heard.append(prompts)

    def __call__(self, batch):
        self.heard.append(batch)
        return super().__call__(batch)


PREFLIGHT = {
    "no prompts": ({"prompts": []}, r"found \[\]: give at least one"),
    "one prompt and no list": ({"prompts": "a red circle"}, "list of prompts .* found 'a red circle'"),
    "an empty prompt": ({"prompts": ["a", " \n"]}, r"found one of 2 characters .*remove it"),
    "an endless prompt": ({"prompts": ["a", "b" * 10_001]}, "at most 10000 characters, found one of 10001 .*split or"),
    "a prompt that is no text": ({"prompts": ["a", None]}, "prompts as text, found None: remove"),
    "an empty held-out prompt": ({"held_out": [""]}, "found one of 0 characters"),
    "one held-out prompt and no list": ({"held_out": "xyz"}, "list of held-out prompts, found 'xyz': put it in a list"),
    "a prompt in both lists": ({"held_out": ["n", "a blue square"]}, "1 are in both .*'a blue square'.*take them out"),
    "no rewards": ({"rewards": {}}, "at least one reward, found none"),
    "an unknown weight": (
        {"config": replace(CONFIG, reward_weights={"redd": 1.0})},
        r"names \['redd'\], but the rewards are \['dark', 'red'\]: correct",
    ),
    "only weights of 0": (
        {"config": replace(CONFIG, reward_weights={"red": 0.0, "dark": 0.0})},
        "every reward has weight 0: give at least one",
    ),
    "too few steps for the model": ({"model": Needy}, "at least 9 denoising steps .* found steps=4: raise"),
    "too few held-out steps for the model": (
        {"model": Needy, "config": replace(CONFIG, steps=9, eval_steps=3)},
        "at least 9 denoising steps .* found eval_steps=3: raise",
    ),
    "a model without a LoRA": ({"model": Bare}, "no LoRA parameters .*attach a LoRA"),
    "a model without latents": ({"model": Flat}, r"positive sizes, found \(3, 0, 2\)"),
}


def sentence(error):
    """The message, which must be one that a person can act on."""
    text = str(error.value)
    assert text[:1].strip(), text
    assert "\n" not in text
    assert 20 < len(text) < 400, text
    return text


def everything_in(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in Path(folder).rglob("*")
    }


@pytest.mark.parametrize("case", PREFLIGHT)
def test_a_run_that_cannot_be_right_does_not_start(tmp_path, case):
    change, words = PREFLIGHT[case]
    arguments = {**GOOD, **change}
    model, watchful = arguments.pop("model")(), Watchful()
    if arguments["rewards"]:
        arguments["rewards"] = {**arguments["rewards"], "red": watchful}
    run = RunFolder.create(tmp_path / "run", arguments["config"])
    files, weights, random = (
        everything_in(tmp_path),
        model.lora_state()["net.lora_A.weight"].clone(),
        torch.get_rng_state(),
    )
    observed = []
    with pytest.raises(ValueError, match=words) as error:
        next(train(model, run=run, observer=observed.append, **arguments))
    sentence(error)
    assert model.evaluations == 0
    assert watchful.heard == observed == []
    assert everything_in(tmp_path) == files
    assert torch.equal(model.lora_state()["net.lora_A.weight"], weights)
    assert torch.equal(torch.get_rng_state(), random)


def test_the_same_run_without_a_mistake_starts(tmp_path):
    """Or every refusal above could have another reason."""
    model, watchful = ToyModel(), Watchful()
    arguments = {**GOOD, "rewards": {"red": watchful, "dark": Dark()}}
    del arguments["model"]
    run = RunFolder.create(tmp_path / "run", CONFIG)
    assert len(list(train(model, run=run, **arguments))) == 2
    assert model.evaluations > 0
    assert watchful.heard[0] == ["a red circle", "a blue square", "a green star"]
    assert len(run.checkpoints) > 0


def test_a_reward_that_refuses_a_prompt_stops_the_run_before_it_computes(tmp_path):
    class Choosy(Red):
        def prepare(self, prompts):
            raise ValueError(f"cannot score {prompts[0]!r}")

    model, run = ToyModel(), RunFolder.create(tmp_path / "run", CONFIG)
    files = everything_in(tmp_path)
    with pytest.raises(ValueError, match="cannot score 'a red circle'"):
        next(train(model, GOOD["prompts"], {"red": Choosy()}, CONFIG, run=run))
    assert model.evaluations == 0
    assert everything_in(tmp_path) == files


def sliding(size, **options):
    return WindowPlanner(window=SlidingWindow(size=size, **options))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"images_per_prompt": 1},
            r"images_per_prompt must be at least 2 and below 10001, found 1: advantages compare",
        ),
        ({"images_per_prompt": 0}, "at least 2 and below 10001, found 0"),
        ({"iterations": 0}, "iterations must be at least 1, or -1, found 0"),
        ({"prompts_per_iteration": 0}, "prompts_per_iteration must be at least 1 and below 1000*1, found 0"),
        ({"updates": 0}, "updates must be at least 1 and below 1000*1, or auto, found 0"),
        ({"epochs": -1}, "epochs must be at least 1 and below 1000*1, found -1"),
        ({"rollout_batch": 0}, "rollout_batch must be at least 1 and below 1000*1, found 0"),
        ({"decode_batch": 0}, "decode_batch must be at least 1 and below 1000*1, found 0"),
        ({"update_batch": 0}, "update_batch must be at least 1 and below 1000*1, found 0"),
        ({"eval_images": 0}, "eval_images must be at least 1 and below 1000*1, found 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, found 0"),
        ({"keep": 0}, "keep must be at least 1, found 0"),
        ({"eval_steps": 0}, "eval_steps must be at least 1 and below 1000*1, found 0"),
        ({"eval_steps": -3}, "eval_steps must be at least 1 and below 1000*1, found -3"),
        ({"eval_every": -1}, "eval_every must be 0 or more, found -1"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0, or auto, found 0\.0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0, or auto, found nan"),
        ({"shift": -1.0}, r"shift must be above 0, found -1\.0"),
        ({"shift": math.inf}, "shift must be a finite number, found inf"),
        ({"max_grad_norm": 0.0}, r"max_grad_norm must be above 0, found 0\.0"),
        ({"weight_decay": -0.1}, r"weight_decay must be 0 or more, found -0\.1"),
        ({"weight_decay": math.nan}, "weight_decay must be 0 or more, found nan"),
        ({"spread_floor": math.nan}, "spread_floor must be 0 or more, found nan"),
        ({"beta1": 1.0}, r"beta1 .*below 1.*found 1\.0"),
        ({"beta2": -0.1}, r"beta2 .*below 1.*found -0\.1"),
        ({"ema": 1.0}, r"ema .*below 1.*such as 0\.99.*found 1\.0"),
        ({"ema": -0.5}, r"ema .*found -0\.5"),
        ({"reward_weights": {"red": -1.0}}, r"'red' must be .*0 or more, found -1\.0: .*negate"),
        ({"reward_weights": {"red": math.nan}}, "'red' must be .*found nan"),
        ({"reward_weights": {"red": math.inf}}, "'red' must be .*finite.*found inf"),
        ({"kernel": FlowSDE(eta=0.0)}, r"eta must be above 0, found 0\.0"),
        ({"kernel": FlowCPS(eta=0)}, "eta must be above 0, found 0"),
        ({"steps": 0}, "steps must be at least 1 and below 10001, found 0"),
        ({"steps": 1}, "must be at most 0; lower the window size or take at least 3 steps"),
        ({"steps": 1, "planner": FullPlanner()}, "none of the 1 steps .*take more steps"),
        ({"steps": 2.0}, r"whole number >= 1, found 2\.0"),
        ({"planner": sliding(4)}, "window of 4 steps does not fit 4 .*at most 3; lower .*or take at least 5"),
        ({"planner": sliding(40)}, "window of 40 steps does not fit 4 .*lower the window size"),
        (
            {"planner": WindowPlanner(window=FrozenWindow(size=2, start=2))},
            "start at 1 at most .*found start = 2; lower",
        ),
        ({"planner": WindowPlanner(window=RandomWindow(size=4))}, "window of 4 steps does not fit 4"),
        ({"planner": WindowPlanner(window=DecayingWindow(size=5))}, "window of 5 steps does not fit 4"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_when_they_are_made(change, words):
    with pytest.raises(ValueError, match=words) as error:
        replace(CONFIG, **change)
    sentence(error)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_largest_window_that_fits_is_not_refused(size):
    config = replace(CONFIG, planner=WindowPlanner(window=FrozenWindow(size=size, start=3 - size)))
    assert config.planner.plan(0, 0, config.sigmas()).trained[-1] == 2, "the step before the last"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SlidingWindow(size=0), "size must be a whole number >= 1, found 0"),
        (lambda: SlidingWindow(stride=0), "stride must .* found 0; FrozenWindow"),
        (lambda: SlidingWindow(hold=0), "hold must be a whole number >= 1, found 0"),
        (lambda: SlidingWindow(last=-1), "last must be None or a whole number >= 0, found -1"),
        (lambda: FrozenWindow(start=-1), "start must be a whole number >= 0, found -1"),
        (lambda: DecayingWindow(hold=2, shortest=3), "shortest must be at most hold = 2, found 3"),
        (lambda: WindowPlanner(tail_ratio=0), "tail_ratio must be above 0 and at most 1, found 0"),
        (lambda: WindowPlanner(tail_ratio=1.1), r"at most 1, found 1\.1"),
        (lambda: WindowPlanner(window=FlowSDE()), r"a window such as SlidingWindow.*found FlowSDE"),
        (lambda: FullPlanner(trained_share=0), "trained_share must be above 0 and at most 1, found 0"),
        (lambda: FlowSDE(eta=-1), "eta must be a finite number >= 0, found -1"),
        (lambda: DanceSDE(eta=math.nan), "eta must be a finite number >= 0, found nan"),
        (lambda: FlowCPS(eta=1.5), r"eta of FlowCPS must be within \[0, 1\], found 1\.5"),
        (lambda: GRPO(clip=0), "both > 0 .*found 0"),
        (lambda: GRPO(clip=(0.1, -0.1)), r"both > 0 .*found \(0\.1, -0\.1\)"),
        (lambda: GRPO(clip=(0.1, 0.2, 0.3)), r"found \(0\.1, 0\.2, 0\.3\)"),
        (lambda: GRPO(adv_clip=0), "adv_clip must be above 0, found 0"),
        (lambda: GRPO(kl=-1), "kl .* 0 or more, found -1"),
        (lambda: GRPO(kl=math.nan), "kl must be a finite number, found nan"),
        (lambda: GuardGRPO(clip=-1.0), r"both > 0 .*found -1\.0"),
        (lambda: Step(trained=True), "a trained step must be stochastic"),
        (lambda: Step(children=2), "only a stochastic step can branch; found children=2"),
        (lambda: Step(stochastic=True, strength=0.0), r"above 0, found 0\.0"),
        (lambda: StepPlan(torch.tensor([1.0, 0.0]), ()), "expected 1 steps for 2 sigmas, found 0"),
        (lambda: StepPlan(torch.tensor([1.0, 0.0]), (Step(stochastic=True),)), "last step must be deterministic"),
    ],
)
def test_parts_that_cannot_be_right_are_refused_when_they_are_made(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    sentence(error)


def test_a_model_whose_lora_has_another_shape_is_not_resumed(tmp_path):
    class Wider(ToyModel):
        def __init__(self):
            super().__init__()
            self.down = torch.nn.Parameter(torch.zeros(3, 14))
            self.up = torch.nn.Parameter(torch.zeros(12, 3))

    arguments = {key: value for key, value in GOOD.items() if key != "model"}
    list(train(ToyModel(), run=RunFolder.create(tmp_path / "run", CONFIG), **arguments))
    files = everything_in(tmp_path / "run/checkpoints")
    model = Wider()
    longer = replace(CONFIG, iterations=3)
    with pytest.raises((ValueError, RuntimeError)):
        next(train(model, run=RunFolder.open(tmp_path / "run"), **{**arguments, "config": longer}))
    assert model.evaluations == 0
    assert everything_in(tmp_path / "run/checkpoints") == files


@dataclass(frozen=True)
class SampledByNobody(GRPO):
    """Its images would come from a policy that there is not."""

    def sampled_by(self, updates):
        return "teacher"


@dataclass(frozen=True)
class SampledByTheBase(GRPO):
    """Images of the model without its LoRA."""

    def sampled_by(self, updates):
        return "reference"


@dataclass(frozen=True)
class TooMany(Shuffled):
    """Chooses what there is not."""

    def choose(self, draw, memory=None):
        return [draw.pool] * draw.count


@dataclass(frozen=True)
class OwnLoss(GRPO):
    """Reports a figure that is not its to report."""

    def loss(self, table, cells):
        return replace(super().loss(table, cells), means={"grad_norm": torch.tensor(1.0)})


def test_the_reference_may_sample(tmp_path):
    model = ToyModel()
    asked = []
    with_weights = model.with_weights
    model.with_weights = lambda weights: asked.append(weights) or with_weights(weights)
    list(train(model, ["a"], {"red": Red()}, replace(SMALL, objective=SampledByTheBase())))
    assert asked[0] is None, "the rollout; what follows looks back at a single update"
    assert all(weights is not None for weights in asked[1:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt_source": TooMany()}, r"expected TooMany to choose 1 numbers below 2, found \[2\]"),
        ({"objective": OwnLoss()}, "the figure 'grad_norm' is the update's own"),
    ],
)
def test_what_a_stranger_gets_wrong_is_said_while_it_runs(change, words):
    with pytest.raises(ValueError, match=words):
        list(train(ToyModel(), ["a", "b"], {"red": Red()}, replace(SMALL, **change)))


# What objectives, credit and prompt sources refuse, before any work


def assert_refused(change, words, model=None, **options):
    model = model or ToyModel()
    with pytest.raises(ValueError, match=words) as error:
        train(
            model, ["a", "b"], {"red": Red()}, replace(TrainConfig(steps=6, images_per_prompt=4), **change), **options
        )
    assert "\n" not in str(error.value)
    assert model.evaluations == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": GCPO(chunks=(2, 3))}, "GCPO .* have 5 steps, but WindowPlanner trains 4: give lengths"),
        (
            {"credit": (WeightedAdvantages(), MaskCredit(area=Inside(right=0.5)))},
            "MaskCredit makes the credit one number per place, but GRPO can use .* choose PositionalGRPO",
        ),
        (
            {"credit": (WeightedAdvantages(), TimeCredit()), "objective": GCPO()},
            "TimeCredit makes the credit one number per step, but GCPO can use .* take TimeCredit out",
        ),
        (
            {"credit": (WeightedAdvantages(), MaskCredit(area=PromptMask())), "objective": PositionalGRPO()},
            "needs a mask with every prompt, found none with 2 of 2",
        ),
        ({"objective": DGPO(), "updates": 5}, "4 groups make no 5 updates"),
        ({"regularisers": (VelocityKL(to="teacher"),)}, "pulls to .'teacher'."),
        ({"prompt_source": PocaCurriculum(reward="blue")}, "'blue', but those that are trained on are .'red'."),
        (
            {"objective": AWM(), "planner": OdePlanner()},
            "OdePlanner makes no noisy step, .* they would all be one image",
        ),
        (
            {"credit": (WeightedAdvantages(), TimeCredit()), "planner": IsoTemporalPlanner()},
            "TimeCredit weighs the trained steps .*, and IsoTemporalPlanner trains one",
        ),
        ({"credit": (WeightedAdvantages(), NoveltyBonus()), "images_per_prompt": 2}, "NoveltyBonus .* of 2 images"),
        (
            {"credit": (WeightedAdvantages(), ParetoCredit())},
            "ParetoCredit weighs 2 or more rewards against each other, and this run trains 1",
        ),
        ({"planner": TreePlanner()}, "tree of TreePlanner has 16 leaves, and 4 images per prompt are no multiple"),
        (
            {"objective": GRPO(step_weight=FlatGradient()), "planner": WindowPlanner(window=FrozenWindow(size=1))},
            "FlatGradient .* and WindowPlanner only",
        ),
        ({"planner": OdePlanner(), "shared_noise": False}, "GRPO learns from trained steps, choose a planner"),
        ({"objective": SampledByNobody()}, "samples with 'teacher', but the policies of this run are .'old', 'ref"),
    ],
)
def test_parts_of_a_run_that_do_not_fit_each_other_are_one_sentence(change, words):
    assert_refused(change, words)


@pytest.mark.parametrize("objective", [AWM(), CRD(), DGPO(), FPO(), RAM(), VGRPO(), DiffusionNFT()])
def test_a_guided_field_is_no_target_of_a_regression(objective):
    class Guided(ToyModel):
        guided = True

    words = f"{type(objective).__name__} regresses the velocity .* no plain field beside it here: set guidance"
    assert_refused({"objective": objective, "shared_noise": False}, words, Guided())


def test_a_curriculum_by_a_reward_that_compares_within_a_prompt_is_refused():
    class Places(Red):
        about = RewardInfo(groupwise=True)

    words = "PocaCurriculum goes by mean rewards of prompts, but place compares the images"
    config = TrainConfig(steps=6, images_per_prompt=4, prompt_source=PocaCurriculum())
    with pytest.raises(ValueError, match=words):
        train(ToyModel(), ["a"], {"place": Places()}, config)
    train(ToyModel(), ["a"], {"place": Places(), "red": Red()}, config)
    config = replace(config, prompt_source=PocaCurriculum(reward="place"))
    with pytest.raises(ValueError, match=words):
        train(ToyModel(), ["a"], {"place": Places(), "red": Red()}, config)


@pytest.mark.parametrize(
    ("kernel", "planner"),
    [(FlowCPS(eta=0.7), TreePlanner(growth=1.0)), (FlowCPS(eta=0.7), BranchPlanner(splits=(0, 3), strength=2.0))],
)
def test_noise_that_a_planner_makes_stronger_than_the_kernel_can_be_names_both(kernel, planner):
    with pytest.raises(
        ValueError, match=f"{type(planner).__name__} makes noise up to .* which FlowCPS cannot be"
    ) as said:
        TrainConfig(kernel=kernel, planner=planner)
    sentence(said)
    least = float(str(said.value).split("its eta to ")[1].split(" at most")[0])
    assert TrainConfig(kernel=FlowCPS(eta=least), planner=planner)
    assert TrainConfig(kernel=FlowSDE(eta=0.7), planner=planner)


def test_contexts_are_of_prompts_that_are_there():
    assert_refused({}, "in no list .such as 'c'", contexts={"c": Context()})


def test_a_mask_that_travels_with_the_prompt_reaches_credit_and_the_run_is_another_with_another_mask(tmp_path):
    """Only the half of the picture that the mask shows learns; a resume with another mask is refused."""
    left, right = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], right[:, 2:] = 1, 1
    config = TrainConfig(
        iterations=1, steps=6, images_per_prompt=4, prompts_per_iteration=2, eval_every=0, guards=(),
        credit=(WeightedAdvantages(), MaskCredit(area=PromptMask())), objective=PositionalGRPO(), learning_rate=0.1,
    )  # fmt: skip

    def contexts(mask):
        return {prompt: Context(mask=mask) for prompt in ("a", "b")}

    run = RunFolder.create(tmp_path / "run", config)
    model = ToyModel()
    list(train(model, ["a", "b"], {"red": Red()}, config, contexts=contexts(left), run=run))
    moved = model.up.detach().view(3, 2, 2, 2).abs().sum(-1)  # latent [3, 2, 2], of rank 2
    assert bool((moved[..., 0] > 0).all())
    assert float(moved[..., 1].abs().max()) == 0
    more = replace(config, iterations=2)
    with pytest.raises(RunError, match="other prompts"):
        list(train(ToyModel(), ["a", "b"], {"red": Red()}, more, contexts=contexts(right), run=run))
