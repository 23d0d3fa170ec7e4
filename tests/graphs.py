"""Workflows of the demo model in API format, as an artist would wire them."""

from comfy_client import Graph

from mixgrpo_core.demo import held_out_prompts, train_prompts

DETAILS = {
    "steps",
    "eval_steps",
    "eval_every",
    "eval_images",
    "checkpoint_every",
    "update_batch",
    "rollout_batch",
    "ema",
}
"""Settings that are shown only where the details are set by hand."""


def demo_parts(graph: Graph, *, train=128, held_out=32, **settings):
    """The nodes that a training of the demo model needs: demo model, prompts, reward, settings.

    The rate is fixed, for short trainings have too few images for one that sets itself.
    """
    demo = graph.add("MixGRPO_DemoModel")
    prompts = graph.add(
        "MixGRPO_PromptSet",
        clip=demo[1],
        prompts="\n".join(train_prompts()[:train]),
        file="none",
        held_out_prompts="\n".join(held_out_prompts()[:held_out]),
        held_out_share=0.1,
        seed=0,
        negative="",
    )
    reward = graph.add("MixGRPO_DemoReward", measure="drawing, with both checks", weight=1.0)
    chosen = {"preset": "Demo", "model_family": "demo", "memory": "plenty", **settings}
    defaults = {"iterations": 0, "images_per_prompt": 0, "prompts_per_iteration": 0, "learning_rate": 5e-4, "rank": 0}
    details = {name: chosen.pop(name) for name in DETAILS & chosen.keys()}
    by_hand = {"details": "set by hand", **{f"details.{name}": value for name, value in details.items()}}
    values = {**defaults, "seed": 0, **chosen, **(by_hand if details else {"details": "from preset"})}
    trainer = graph.add("MixGRPO_TrainerSettings", **values)
    return demo, prompts, reward, trainer


def training(run_name="demo", *, start_from="none", **parts):
    """A training graph, and its trainer node; ``parts`` go to ``demo_parts``."""
    graph = Graph()
    demo, prompts, reward, settings = demo_parts(graph, **parts)
    trainer = graph.add(
        "MixGRPO_TrainLora",
        model=demo[0],
        vae=demo[2],
        prompts=prompts[0],
        rewards=reward[0],
        settings=settings[0],
        run_name=run_name,
        start_from=start_from,
    )
    return graph, trainer


def sampling(sampler, *, steps=8, batch=2, window=None, seed=4):
    """A workflow that samples the demo model; ``sampler`` and ``window`` are inputs of nodes, or None for none."""
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    positive = graph.add("CLIPTextEncode", clip=demo[1], text="a large blue square at the top")
    guider = graph.add("BasicGuider", model=demo[0], conditioning=positive[0])
    linked = {} if window is None else {"window": graph.add("MixGRPO_Window", **window)[0]}
    kind = graph.add("KSamplerSelect", sampler_name="euler") if sampler is None else None
    kind = kind or graph.add("MixGRPO_Sampler", **sampler, **linked)
    latents = graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=seed)[0],
        guider=guider[0],
        sampler=kind[0],
        sigmas=graph.add("BasicScheduler", model=demo[0], scheduler="simple", steps=steps, denoise=1.0)[0],
        latent_image=graph.add("EmptySD3LatentImage", width=64, height=64, batch_size=batch)[0],
    )
    images = graph.add("VAEDecode", samples=latents[0], vae=demo[2])
    return graph, graph.add("PreviewImage", images=images[0])


SHORT = {"train": 4, "held_out": 1, "iterations": 3, "images_per_prompt": 4, "prompts_per_iteration": 2, "steps": 6}
"""A training of seconds."""
