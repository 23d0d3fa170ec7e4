"""The presets have the figures that their papers or their code tell; our own fits every model."""

import pytest

from mixgrpo_core.models.facts import FACTS
from mixgrpo_core.objectives import GuardGRPO
from mixgrpo_core.sampling.kernels import PreciseSDE
from mixgrpo_core.settings import presets
from mixgrpo_core.settings.fitted import fitted


def test_precise_is_as_its_code_has_it():
    config = presets.precise()
    assert config.kernel == PreciseSDE(eta=1.5) and config.objective == GuardGRPO(clip=4e-6)
    assert (config.steps, config.images_per_prompt, config.prompts_per_iteration) == (20, 8, 32)
    assert config.learning_rate == 8e-5 and not config.shared_noise and not config.objective.kl
    assert config.plan(0, 0, config.sigmas()).trained == tuple(range(19))


def test_chunks_of_gcpo_are_the_trained_steps():
    config = presets.gcpo()
    assert sum(config.objective.chunks) == len(config.plan(0, 0, config.sigmas()).trained) == 16


@pytest.mark.parametrize("name", ["diffusion_nft", "awm", "dgpo", "v_grpo", "ram", "crd"])
def test_forward_presets_sample_by_the_ode_from_noise_of_their_own(name):
    config = presets.PRESETS[name]()
    assert config.plan(0, 0, config.sigmas()).stochastic == () and not config.shared_noise
    assert config.updates == 1 and config.learning_rate == 3e-4


@pytest.mark.parametrize("family", FACTS)
def test_a_quick_look_stays_one_on_every_model(family):
    config, facts = fitted(presets.quick_look(), FACTS[family]), FACTS[family]
    assert (config.steps, config.eval_steps) == (min(10, facts.steps), facts.steps)
    assert config.iterations == 24 and config.prompts_per_iteration == facts.prompts
    size = min(3, facts.window)
    for iteration in range(24):
        plan, start = config.plan(iteration, 0, config.sigmas()), iteration // 8
        assert plan.trained == tuple(range(start, start + size))
        assert len(plan.steps) < config.steps or facts.steps < 10
    assert config.learning_rate == "auto" and config.update_count == min(16, 2 * facts.prompts)
