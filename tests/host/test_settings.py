"""The Trainer Settings node: published numbers, what every input changes, and what it refuses."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from mixgrpo_pack.mixgrpo_core import FrozenWindow, RandomWindow, SlidingWindow, TrainConfig, WindowPlanner
from mixgrpo_pack.mixgrpo_core.demo import demo_config
from mixgrpo_pack.mixgrpo_core.models.facts import FACTS as FAMILIES
from mixgrpo_pack.mixgrpo_core.objectives import AWM, TMPO, DiffusionNFT
from mixgrpo_pack.mixgrpo_core.sampling import BranchPlanner, BranchStepPlanner, TreePlanner, WanderingTreePlanner
from mixgrpo_pack.mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE
from mixgrpo_pack.mixgrpo_core.sampling.solvers import DPMpp2M, Euler
from mixgrpo_pack.mixgrpo_core.settings.presets import METHODS
from mixgrpo_pack.mixgrpo_core.support.setting import settings_of
from mixgrpo_pack.mixgrpo_core.training.cost import iteration_cost, method_cost
from mixgrpo_pack.nodes.settings.inputs import BY_HAND, FROM_PRESET, detail_inputs
from mixgrpo_pack.nodes.settings.presets import MEMORY, PRESETS, memory_of
from mixgrpo_pack.nodes.settings.trainer_settings import TrainerSettingsNode

METHODS_PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
DETAILS = {item.id for item in detail_inputs()}
BASE = {"preset": "MixGRPO", "model_family": "FLUX.1-dev", "memory": "plenty"}


def nested(values):
    """Values as the host hands them on: those of the details in a group of their own."""
    details = {name: value for name, value in values.items() if name in DETAILS}
    shown = {"details": BY_HAND, **details} if details else {"details": FROM_PRESET}
    return {**{name: value for name, value in values.items() if name not in DETAILS}, "details": shown}


def settings(window=None, **values):
    given = nested({**BASE, **values})
    said = TrainerSettingsNode.validate_inputs(input_types={"window": "MIXGRPO_WINDOW"} if window else None, **given)
    assert said is True, said
    return TrainerSettingsNode.execute(window=window, **given).args[0]


def refusal(**values):
    said = TrainerSettingsNode.validate_inputs(**nested({**BASE, **values}))
    assert isinstance(said, str), "this should have been refused"
    return said


def test_mixgrpo_on_flux_is_the_paper_but_for_the_prompts():
    found = settings()
    train = found.train
    assert (train.steps, train.images_per_prompt, train.iterations) == (25, 12, 300)
    assert train.planner == WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=25))
    assert train.kernel == FlowSDE(eta=0.7) and train.learning_rate == "auto" and train.objective.kl == 0
    assert (settings(step_size="fixed").train.learning_rate, settings(step_size="fixed").train.updates) == (3e-4, 2)
    assert train.planner.window.at(299, 25) == range(11, 15)
    assert (found.width, found.height, found.cfg, found.guidance, found.model_shift) == (720, 720, 1.0, 3.5, True)
    assert train.prompts_per_iteration == 2


def test_mixgrpo_on_sd35_takes_its_guidance_kl_and_average():
    found = settings(model_family="SD3.5")
    assert (found.train.steps, found.width, found.cfg, found.guidance) == (10, 512, 4.5, None)
    assert (found.train.objective.kl, found.train.ema, found.train.images_per_prompt) == (1e-3, 0.99, 24)
    starts = {found.train.planner.window.at(iteration, 10).start for iteration in range(found.train.iterations)}
    assert starts == set(range(6)), "within the run the window visits every start"


def test_flash_and_its_relatives():
    flash = settings(preset="MixGRPO-Flash").train
    assert flash.planner.tail_ratio == 0.4 and flash.tail_solver == DPMpp2M() and flash.planner.window.hold == 20
    star = settings(preset="MixGRPO-Flash*").train
    assert star.planner == WindowPlanner(window=FrozenWindow(size=4, start=0), tail_ratio=0.2)
    assert settings(preset="DanceGRPO").train.kernel == DanceSDE(eta=0.3)
    rollout = {
        name: iteration_cost(replace(settings(preset=name).train, prompts_per_iteration=1), 0).nfe["rollout"]
        for name in ("MixGRPO", "MixGRPO-Flash", "MixGRPO-Flash*")
    }
    assert rollout["MixGRPO"] > rollout["MixGRPO-Flash"] > rollout["MixGRPO-Flash*"]


def test_the_demo_is_the_command_lines_demo():
    found = settings(preset="Demo", model_family="demo", memory="8 GB", seed=5)
    assert found.train == replace(demo_config(seed=5), reward_weights={})
    assert (found.width, found.height, found.cfg, found.rank, found.alpha) == (64, 64, 1.0, 8, 16.0)


def test_the_demo_with_few_images_makes_fewer_updates():
    def found(**choices):
        train = settings(preset="Demo", model_family="demo", **choices).train
        return train.learning_rate, train.updates

    assert found() == ("auto", 8)
    assert found(images_per_prompt=6, prompts_per_iteration=2) == ("auto", 2)
    assert found(images_per_prompt=4, prompts_per_iteration=1) == ("auto", 1)
    assert found(images_per_prompt=6, updates=2) == ("auto", 2)
    assert found(images_per_prompt=6, prompts_per_iteration=1, updates=2, learning_rate=1e-3) == (1e-3, 2)
    assert found(step_size="fixed") == (5e-4, 8)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_quick_look_stays_one_on_every_model_and_card(family, memory):
    train = settings(preset="Quick look", model_family=family, memory=memory).train
    usual = FAMILIES[family].steps
    assert (train.iterations, train.steps, train.eval_steps) == (24, min(10, usual), usual)
    window = SlidingWindow(size=min(3, FAMILIES[family].window), stride=1, hold=8, last=2)
    assert train.planner.window == window and train.decode_dtype == "auto"
    images = train.images_per_prompt * train.prompts_per_iteration
    assert train.learning_rate == "auto" and train.update_count == min(16, images // 6)
    by_hand = settings(preset="Quick look", model_family=family, memory=memory, images_per_prompt=4).train
    assert by_hand.update_count == 4 * train.prompts_per_iteration // 6 and by_hand.learning_rate == "auto"


def test_few_step_models_get_few_steps_no_cfg_and_no_shortened_tail():
    found = settings(model_family="distilled, 4-8 steps", preset="MixGRPO-Flash")
    assert 4 <= found.train.steps <= 8 and found.cfg == 1.0
    assert found.train.planner.tail_ratio == 1.0 and found.train.tail_solver == Euler()
    assert found.train.planner.window.size < found.train.steps - 1
    assert isinstance(found.train.kernel, FlowCPS)
    assert "CFG" in refusal(model_family="distilled, 4-8 steps", cfg=2.0)
    assert "CFG" in refusal(model_family="FLUX.2", cfg=1.1)
    assert settings(model_family="other flow model", cfg=2.0).cfg == 2.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "Demo"])
def test_every_preset_fits_every_family(preset, family):
    found = settings(preset=preset, model_family=family, memory="16 GB")
    train = found.train
    for iteration in range(0, train.iterations, max(1, train.iterations // 12)):
        plan = train.planner.plan(iteration, 0, train.sigmas())
        assert plan.trained and max(plan.trained) < train.steps - 1 and plan.sigmas[-1] == 0
    assert train.learning_rate == "auto" and train.update_count <= max(train.prompts_per_iteration, 16)
    fixed = settings(preset=preset, model_family=family, memory="16 GB", step_size="fixed").train
    assert fixed.update_count <= fixed.prompts_per_iteration or family == "demo" or preset == "Quick look"
    assert found.cfg >= 1 and found.width % 16 == 0 and train.reward_weights == {}
    if not isinstance(train.objective, TMPO):  # its clip is of a whole path
        assert getattr(train.objective, "clip", None) is None, "a published clip belongs to one size of latents"
    if getattr(train.objective, "chunks", None):
        assert sum(train.objective.chunks) == len(train.planner.plan(0, 0, train.sigmas()).trained)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("preset", ["BranchGRPO", "after TreeGRPO", "after TMPO", "after TempFlow-GRPO", "RSM"])
def test_a_tree_fits_the_images_that_memory_allows(preset, memory):
    for family in FAMILIES:
        train = settings(preset=preset, model_family=family, memory=memory).train
        leaves = train.planner.plan(0, 0, train.sigmas()).leaves_per_row
        assert leaves > 1 and train.images_per_prompt % leaves == 0
        assert train.images_per_prompt <= (memory_of(FAMILIES[family], memory).images or 27)
        assert train.shared_noise or train.images_per_prompt > leaves, "several starts, whose branches are compared"


TREES = {
    "branch_grpo": ("Qwen-Image", BranchPlanner),
    "tree_grpo": ("SD3.5", TreePlanner),
    "dynamic_tree_rpo": ("SD3.5", TreePlanner),
    "tmpo": ("distilled, 4-8 steps", WanderingTreePlanner),
    "tempflow_grpo": ("SD3.5", BranchStepPlanner),
    "rsm": ("SD3.5", BranchStepPlanner),
}
"""With a family of as many steps as published."""


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_chosen_and_costs_the_rows_that_the_page_of_methods_tells(name):
    family, planner = TREES[name]
    train = settings(preset=METHODS[name].label, model_family=family, memory="plenty").train
    assert type(train.planner) is planner
    row = next(line for line in METHODS_PAGE.read_text(encoding="utf-8").splitlines() if f"| `{name}` |" in line)
    rollout, training = (float(cell) for cell in row.split("|")[5:7])
    found = method_cost(train)  # fewer prompts share the ratio's probe
    assert found.rollout == pytest.approx(rollout, abs=0.03) and found.training == pytest.approx(training, abs=0.06)


def test_a_window_that_is_published_for_as_many_steps_visits_as_many_places():
    published = METHODS["tree_grpo"].config
    found = settings(preset="after TreeGRPO", model_family="SD3.5", memory="plenty").train
    assert found.iterations != published.iterations and found.planner.window.hold == 60
    for config in (published, found):
        visited = {config.planner.window.at(iteration, 10).start for iteration in range(config.iterations)}
        assert visited == {0, 1, 2, 3, 4}


def test_a_tree_of_few_images_keeps_the_shape_of_the_published_one():
    whole = settings(preset="BranchGRPO", model_family="Qwen-Image", memory="plenty").train
    assert whole.planner.splits == (0, 3, 6, 9) and whole.images_per_prompt == 16
    assert settings(preset="BranchGRPO", memory="plenty").train.planner.splits == (0, 4, 8, 11), "25 steps, not 20"
    small = settings(preset="BranchGRPO", model_family="Qwen-Image", memory="24 GB").train
    assert small.planner.splits == (0, 3, 6) and small.images_per_prompt == 8
    few = settings(preset="after TMPO", model_family="distilled, 4-8 steps", memory="plenty").train
    assert few.planner.early == (1, 2, 3) and few.planner.over == 300 and few.images_per_prompt == 27
    growing = settings(preset="inspired by Dynamic-TreeRPO", model_family="distilled, 4-8 steps").train
    assert growing.kernel.eta * 1.5 <= 1, "Flow-CPS ends at 1, and the tree's last step is half as noisy again"


def test_presets_with_masks_or_of_final_images_are_not_offered():
    offered = {preset.__name__ for preset in PRESETS.values()}
    assert {"flash_grpo", "branch_grpo", "tmpo", "otca", "vipo", "mar_grpo"} <= offered
    assert not {"edit_grpo", "omninft_routing", "pareto_slider", "diffusion_nft", "mixgrpo_sd35"} & offered


def test_less_memory_never_asks_for_more():
    names = ("width", "height", "rank")
    sizes = ("images_per_prompt", "rollout_batch", "decode_batch", "update_batch")
    for family in FAMILIES:
        found = [settings(model_family=family, memory=memory) for memory in MEMORY]
        for more, less in zip(found, found[1:], strict=False):
            assert all(getattr(more, name) >= getattr(less, name) for name in names)
            assert all(getattr(more.train, name) >= getattr(less.train, name) for name in sizes)
    assert settings(memory="8 GB").checkpointing and settings(memory="8 GB").width == 384
    assert not settings(model_family="FLUX.1-dev", memory="plenty").checkpointing
    assert settings(model_family="Qwen-Image", memory="plenty").checkpointing, "61 GiB an image at 1024 px without"


CHANGES = {
    "iterations": (7, "iterations"),
    "images_per_prompt": (6, "images_per_prompt"),
    "prompts_per_iteration": (5, "prompts_per_iteration"),
    "learning_rate": (1e-5, "learning_rate"),
    "rank": (4, "rank"),
    "seed": (3, "seed"),
    "width": (256, "width"),
    "height": (320, "height"),
    "guidance": (0.0, "guidance"),
    "steps": (12, "steps"),
    "shift": (2.5, "shift"),
    "kernel": ("Flow-CPS", "kernel"),
    "eta": (0.5, "kernel"),
    "shared_noise": ("off", "shared_noise"),
    "tail_ratio": (0.5, "planner"),
    "tail_solver": ("DPM-Solver++ 2M", "tail_solver"),
    "objective": ("GRPO-Guard", "objective"),
    "clip": (0.01, "objective"),
    "adv_clip": (2.0, "objective"),
    "kl": (0.02, "objective"),
    "updates": (1, "updates"),
    "epochs": (2, "epochs"),
    "max_grad_norm": (0.5, "max_grad_norm"),
    "weight_decay": (0.0, "weight_decay"),
    "ema": (0.9, "ema"),
    "spread_floor": (0.1, "spread_floor"),
    "alpha": (3.0, "alpha"),
    "checkpointing": ("on", "checkpointing"),
    "rollout_batch": (3, "rollout_batch"),
    "decode_batch": (3, "decode_batch"),
    "update_batch": (3, "update_batch"),
    "eval_every": (0, "eval_every"),
    "eval_images": (9, "eval_images"),
    "eval_steps": (30, "eval_steps"),
    "guards": ("stop", "guards"),
    "checkpoint_every": (50, "checkpoint_every"),
    "checkpoint_minutes": (5.0, "checkpoint_minutes"),
    "keep": (1, "keep"),
    "step_size": ("fixed", "learning_rate"),
    "layers": ("attention", "layers"),
    "more_settings": ('credit = "WeightedRewards()"', "credit"),
}
FOLLOWS = {"rank": {"alpha"}, "step_size": {"updates"}, "learning_rate": {"updates"}, "shift": {"model_shift"}}


def flat(found):
    train = {item.name: getattr(found.train, item.name) for item in fields(found.train)}
    rest = {item.name: getattr(found, item.name) for item in fields(found) if item.name != "train"}
    return {**train, **rest}


@pytest.mark.parametrize("name", CHANGES)
def test_an_input_changes_its_setting_and_no_other(name):
    value, setting = CHANGES[name]
    before, after = flat(settings()), flat(settings(**{name: value}))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {setting} | FOLLOWS.get(name, set())
    if not isinstance(value, str) and setting not in ("kernel", "objective", "planner"):
        assert after[setting] == value


def test_every_input_is_tried_above_and_told():
    inputs = [*TrainerSettingsNode.define_schema().inputs, *detail_inputs()]
    assert {item.id for item in inputs} == {*CHANGES, *BASE, "window", "cfg", "details"}
    assert all(item.tooltip for item in inputs)
    seeds = [item for item in inputs if item.id == "seed"]
    assert [item.control_after_generate for item in seeds] == [False], "a seed that changes by itself starts a new run"


def test_choices_within_an_object():
    objective = settings(preset="Flow-GRPO", objective="GRPO-Guard", clip=0.01).train.objective
    assert type(objective).__name__ == "GuardGRPO" and objective.kl == 1e-3 and objective.clip == 0.01
    assert settings(kl=0.0, model_family="SD3.5").train.objective.kl == 0.0
    assert settings(kernel="DanceGRPO SDE", eta=0.2).train.kernel == DanceSDE(eta=0.2)


@pytest.mark.parametrize(
    ("preset", "planner"),
    [
        ("BranchGRPO", "BranchPlanner"),
        ("after TMPO", "WanderingTreePlanner"),
        ("after Flash-GRPO", "IsoTemporalPlanner"),
        ("RSM", "BranchStepPlanner"),
        ("after E-GRPO", "MergedStepPlanner"),
    ],
)
def test_a_window_is_refused_where_it_would_make_another_method_of_the_preset(preset, planner):
    said = TrainerSettingsNode.validate_inputs(
        input_types={"window": "MIXGRPO_WINDOW"}, **nested({**BASE, "preset": preset})
    )
    assert said.startswith(f"{planner} chooses the trained steps of this preset and has no window: take the window off")
    with pytest.raises(ValueError, match=planner):
        TrainerSettingsNode.execute(window=FrozenWindow(size=2), **nested({**BASE, "preset": preset}))


def test_a_tree_in_a_window_takes_another_window():
    found = settings(window=FrozenWindow(size=3), preset="after TreeGRPO", images_per_prompt=8).train
    assert found.planner.window == FrozenWindow(size=3) and found.planner.children == 2


def test_a_window_by_wire_replaces_the_presets():
    window = RandomWindow(size=3, seed=1)
    assert settings(window=window).train.planner == WindowPlanner(window=window)
    assert settings(window=window, preset="MixGRPO-Flash").train.planner == WindowPlanner(window=window, tail_ratio=0.4)
    assert settings(window=window, preset="DanceGRPO").train.planner == WindowPlanner(window=window)
    assert settings(window=FrozenWindow(size=2), steps=4).train.steps == 4
    with pytest.raises(ValueError, match="does not fit"):
        TrainerSettingsNode.execute(window=RandomWindow(size=25), **BASE)


def test_a_step_that_sets_itself_takes_rate_and_updates_unless_they_are_set_by_hand():
    own, usual = settings(step_size="sets itself").train, settings().train
    assert own == usual and (own.learning_rate, own.updates, own.update_count) == ("auto", "auto", 4)
    assert settings(updates=8).train == replace(usual, updates=8)
    fixed = settings(step_size="fixed").train
    assert (fixed.learning_rate, fixed.updates) == (3e-4, 2)
    assert settings(learning_rate=1e-3).train == replace(fixed, learning_rate=1e-3)
    assert "learning_rate is set by hand (0.001)" in refusal(step_size="sets itself", learning_rate=1e-3)
    few = settings(memory="8 GB").train
    assert (few.learning_rate, few.update_count) == ("auto", 2)
    final = settings(objective="AWM", cfg=1.0).train
    assert (final.learning_rate, final.updates) == ("auto", 2), "its number of updates is part of the method"
    told = TrainerSettingsNode.execute(**nested(BASE)).args[1]
    assert "a rate that sets itself, 4 updates per iteration" in told


def test_messages_in_plain_words():
    assert "at least 2" in refusal(images_per_prompt=1)
    assert "does not fit 4 sampling steps" in refusal(steps=4)
    assert "multiple of 16" in refusal(width=500) and "take 496" in refusal(width=500)
    assert "1 (off) or more" in refusal(cfg=0.5)
    assert "demo model" in refusal(preset="Demo")
    assert "has none" in refusal(tail_ratio=0.5, preset="Flow-GRPO")
    assert "[0, 1]" in refusal(kernel="Flow-CPS", eta=1.5)
    assert "learning_rate lies in 0..1" in refusal(learning_rate=float("nan"))
    assert "iterations lies in" in refusal(iterations=-3)
    assert "expected one of" in refusal(preset="../MixGRPO")
    said = TrainerSettingsNode.validate_inputs(input_types={"window": "LATENT"}, **nested(BASE))
    assert said == "window: expected a wire of type MIXGRPO_WINDOW, found LATENT"
    assert TrainerSettingsNode.validate_inputs(input_types={"details.steps": "INT"}, **nested(BASE)) is True, (
        "checked when it is there"
    )
    with pytest.raises(ValueError, match="steps lies in"):
        TrainerSettingsNode.execute(**nested({**BASE, "steps": -1}))


def test_the_summary_says_what_will_happen():
    text = TrainerSettingsNode.execute(**{**BASE, "memory": "24 GB"}).args[1]
    assert "720 x 720 pixels, 25 steps" in text and "24 images: 12 of each of 2 prompts" in text
    assert "rank 32" in text and "SlidingWindow(size=4" in text


def test_hidden_details_are_the_presets():
    """What was set by hand and put away again does not count."""
    given = {**BASE, "details": {"details": FROM_PRESET, "steps": 8}}
    assert TrainerSettingsNode.execute(**given).args[0] == settings()


# More settings

MORE = """
# what has no input of its own
credit = ["CentredRewards()", "TimeCredit()"]
regularisers = "VelocityKL(weight=0.01)"   # a list of one
prompt_source = "Shuffled()"
objective = "GRPO(kl=0.5, step_weight=FlatGradient())"
planner = "WindowPlanner(window=FrozenWindow(size=3, start=2))"
spread_floors = {aesthetic = 0.1, clip = 2}
beta1 = 0.8
shared_noise = false
"""


def test_lines_that_fit_only_together_may_stand_in_any_order():
    lines = ['objective = "AWM()"', 'planner = "OdePlanner()"', "shared_noise = false"]
    for order in (lines, lines[::-1]):
        train = settings(more_settings="\n".join(order)).train
        assert type(train.objective) is AWM and type(train.planner).__name__ == "OdePlanner"


def test_every_setting_of_a_run_file_can_be_written_as_text():
    train = settings(more_settings=MORE).train
    assert [type(stage).__name__ for stage in train.credit] == ["CentredRewards", "TimeCredit"]
    assert train.regularisers[0].weight == 0.01 and train.beta1 == 0.8 and train.shared_noise is False
    assert train.objective.kl == 0.5 and type(train.objective.step_weight).__name__ == "FlatGradient"
    assert train.planner == WindowPlanner(window=FrozenWindow(size=3, start=2))
    assert train.spread_floors == {"aesthetic": 0.1, "clip": 2.0}
    assert settings(more_settings="\n\n").train == settings().train
    assert settings(more_settings='combination = "WeightedRewards()"').train.credit[0].label == "weighted rewards"
    assert settings(more_settings='spread_floors = {"a b": 1}').train.spread_floors == {"a b": 1.0}


@pytest.mark.parametrize(
    "text, words",
    [
        ("credit", "line 1 of more_settings: expected a setting such as"),
        ("beta1 == 0.5", "line 1 of more_settings: expected a setting"),
        ("\nbeta3 = 0.5", "line 2 of more_settings: unknown setting 'beta3'; did you mean 'beta"),
        ("beta1 = 0.5\nsteps = 9", "line 2 of more_settings: steps has an input of its own: set it there"),
        ("seed = 9", "seed has an input of its own"),
        ("shift = 3.0", "shift has an input of its own"),
        ("beta1 = 1.5", "line 1 of more_settings: beta1 must be 0 or more and below 1"),
        ("beta1 = true", "line 1 of more_settings: beta1 expects a number, found True"),
        ("beta1 = 0.5\nbeta1 = 0.6", "line 2 of more_settings: beta1 is set twice"),
        (
            "objective = GRPO(kl=1)",
            "line 1 of more_settings: expected a number, true, false, a list or a call in quotes",
        ),
        ("beta1 = __import__('os').getpid()", "expected a number, true, false"),
        ('beta1 = {x = __import__("os")}', "expected a number, true, false"),
        ('objective = "PPO()"', "line 1 of more_settings: unknown class 'PPO'"),
        ('credit = "TimeCredit()"', "line 1 of more_settings: credit begins with a stage that makes"),
        ("reward_weights = {a = 1}", "the weights are inputs of the reward nodes"),
        ('objective = "GRPO(step_weight=Euler())"', "expected step_weight of GRPO to be a call of Even"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text, words):
    assert words in refusal(more_settings=text)


@pytest.mark.parametrize(
    "line, values, name",
    [
        ('objective = "GRPO()"', {"objective": "GRPO-Guard"}, "objective"),
        ('objective = "GRPO()"', {"kl": 0.0}, "kl"),
        ('kernel = "FlowSDE()"', {"eta": 0.5}, "eta"),
        ('planner = "FullPlanner()"', {"tail_ratio": 0.5}, "tail_ratio"),
        ("guards = []", {"guards": "stop"}, "guards"),
        ("shared_noise = true", {"shared_noise": "off"}, "shared_noise"),
    ],
)
def test_a_setting_is_set_in_one_place(line, values, name):
    said = refusal(more_settings=line, **values)
    assert said.startswith("line 1 of more_settings sets") and f"so does the input {name}: take one out" in said


def test_a_window_by_wire_and_a_planner_in_words_do_not_go_together():
    given = nested({**BASE, "more_settings": 'planner = "FullPlanner()"'})
    with pytest.raises(ValueError, match="so does the input window"):
        TrainerSettingsNode.execute(window=FrozenWindow(size=2), **given)


def test_settings_of_an_objective_that_it_does_not_have_are_refused_by_name():
    assert settings(objective="AWM").train.objective == AWM(), "with the KL that it is published with"
    assert settings(objective="GRPO-Guard", preset="Flow-GRPO").train.objective.kl == 1e-3, "with the preset's"
    assert settings(objective="DiffusionNFT", preset="Flow-GRPO").train.objective == DiffusionNFT()
    guided = {"objective": "DiffusionNFT", "model_family": "SD3.5"}
    assert refusal(**guided) == (
        "DiffusionNFT learns from final images and wants a model without guidance, and CFG is 4.5: set cfg to 1, or "
        "choose an objective of sampled steps such as GRPO"
    )
    assert settings(**guided, cfg=1.0).cfg == 1
    said = refusal(objective="DiffusionNFT", clip=0.1)
    assert said == "clip is no setting of DiffusionNFT: set it to 0, or choose another objective"


def test_a_workflow_from_before_has_no_more_settings():
    given = nested(dict(BASE))
    assert TrainerSettingsNode.execute(**given).args[0] == settings(more_settings="")


def test_the_grid_is_the_models_unless_a_shift_is_given():
    assert settings().train.shift is None and settings().model_shift
    found = settings(shift=2.5)
    assert found.train.shift == 2.5 and not found.model_shift


def test_ranges_and_words_are_the_cores():
    inputs = {item.id: item for item in [*TrainerSettingsNode.define_schema().inputs, *detail_inputs()]}
    for name, told in settings_of(TrainConfig):
        if name in inputs and told.range:
            assert inputs[name].tooltip.startswith(told.help)
            assert not told.holds(inputs[name].default), "what stands for the preset's is no value of the setting"
    assert [inputs[name].default for name in ("steps", "weight_decay", "ema", "eval_every")] == [0, -1, -1, -1]
