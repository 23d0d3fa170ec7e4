"""One LoRA, the same images everywhere: the trainer's own MODEL, the host's two loaders, this package, diffusers.

Latents of four images after ten steps from the same noise over the same sigmas, whose numbers are of size 1. ``SAME``
bounds the greatest difference of any of them: 0 between the host's loaders and 4e-6 between homes was measured, and the
LoRA moves them by up to 1.7 (16 grey levels of 255 on average). Pictures are compared as PNG files: one grey level may
round apart.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from comfy_client import Client, Graph, Node
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from graphs import SHORT, training
from PIL import Image
from safetensors.torch import load_file

from mixgrpo_core.demo import demo_config, held_out_prompts, train_prompts
from mixgrpo_core.models.diffusers.loading import load_network, load_vae
from mixgrpo_core.models.families.demo import DEMO, load_demo
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.lora_file import load_lora
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.sampling.ode import sample
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.training.loop import train

SAME, DIFFERENT = 1e-4, 0.5
STEPS, SHIFT, SEED, IMAGES = 10, 3.0, 11, 4
PROMPT = held_out_prompts()[5]
SIGMAS = flow_sigmas(STEPS, SHIFT)
LEARNING_RATE = 5e-3
"""Ten times the demo's: a few iterations then leave a LoRA that nobody overlooks."""


@dataclass(frozen=True)
class Sampled:
    """Latents ``[4, 16, 8, 8]`` as the network makes them, pictures ``[4, 64, 64, 3]`` in 0..255."""

    latents: torch.Tensor
    pictures: np.ndarray


def sampling(graph, demo, model):
    """Nodes of the host that sample ``model``; returns the one that saves latents and the one that shows pictures."""
    text = graph.add("CLIPTextEncode", clip=demo[1], text=PROMPT)
    latents = graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=SEED)[0],
        guider=graph.add("BasicGuider", model=model, conditioning=text[0])[0],
        sampler=graph.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=graph.add("ManualSigmas", sigmas=", ".join(f"{sigma:.9f}" for sigma in SIGMAS))[0],
        latent_image=graph.add("EmptySD3LatentImage", width=64, height=64, batch_size=IMAGES)[0],
    )
    saved = graph.add("SaveLatent", samples=latents[0], filename_prefix="latents/lora")
    images = graph.add("VAEDecode", samples=latents[0], vae=demo[2])
    return saved, graph.add("PreviewImage", images=images[0])


def run(host, graph, shown):
    """What each of the ``shown`` pairs of nodes has sampled, by name."""
    with Client(host.address) as client:
        outputs = client.run(graph, timeout=600).outputs
        return {name: _read(host, client, outputs, *nodes) for name, nodes in shown.items()}


def _read(host, client, outputs, saved, shown):
    place = outputs[saved.id]["latents"][0]
    latents = load_file(host.base / "output" / place["subfolder"] / place["filename"])["latent_tensor"]
    files = [client.view(image) for image in outputs[shown.id]["images"]]
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.int16) for file in files])
    return Sampled((latents - 0.0609) * 1.5305, pictures)  # the host hands latents on as the VAE takes them


def headless(file=None):
    """The same images by this package without the host."""
    model = load_demo(lora=file)
    latents = sample(model, model.encode(PROMPT), noise(), SIGMAS, lora_share=float(file is not None))
    return Sampled(latents, _as_saved(model.decode(latents)))


def pipeline(file):
    """The same images by the diffusers pipeline and nothing of ours but the caption encoder."""
    pipe = StableDiffusion3Pipeline(
        transformer=load_network(DEMO / "transformer", "SD3Transformer2DModel", torch.float32),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=load_vae(DEMO / "vae", "AutoencoderTiny"),
        **dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3")),
        **dict.fromkeys(("tokenizer", "tokenizer_2", "tokenizer_3")),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(file))
    text = load_demo().encode(PROMPT).positive
    latents = pipe(
        prompt_embeds=text["prompt_embeds"].expand(IMAGES, -1, -1),
        pooled_prompt_embeds=text["pooled_prompt_embeds"].expand(IMAGES, -1),
        guidance_scale=1.0,
        latents=noise(),
        sigmas=[1 - i / STEPS for i in range(STEPS)],  # it shifts them itself
        output_type="latent",
        return_dict=False,
    )[0]
    return Sampled(latents, _as_saved(load_demo().decode(latents)))


def noise():
    return torch.randn(IMAGES, 16, 8, 8, generator=torch.Generator().manual_seed(SEED))


def _as_saved(images):
    return (255 * images).to(torch.uint8).numpy().astype(np.int16)


@pytest.fixture(scope="module")
def canvas(host):
    """A LoRA trained on the canvas, its file, and what the graph that trained it samples in three ways, and plainly."""
    graph, trainer = training("everywhere", learning_rate=LEARNING_RATE, **SHORT)
    demo = next(Node(key) for key, node in graph.items() if node["class_type"] == "MixGRPO_DemoModel")
    loader = graph.add("LoraModelLoader", model=demo[0], lora=trainer[1], strength_model=1.0, bypass=False)
    ways = {"base": demo[0], "trainer": trainer[0], "Load LoRA Model": loader[0]}
    found = run(host, graph, {name: sampling(graph, demo, model) for name, model in ways.items()})
    return found, host.base / "output" / "loras" / "mixgrpo" / "everywhere-last.safetensors"


def from_file(host, name):
    """Sampled through the host's *LoraLoaderModelOnly*."""
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    loader = graph.add("LoraLoaderModelOnly", model=demo[0], lora_name=name, strength_model=1.0)
    return run(host, graph, {"file": sampling(graph, demo, loader[0])})["file"]


def bypassed(host, name):
    """Sampled through *Load LoRA Model* with its bypass, which leaves weights as they are.

    In ComfyUI's own names: its bypass leaves out whatever is a part of one of its fused layers.
    """
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    words = {"layout": "ComfyUI native", "name": "native", "dtype": "as it is"}
    native = graph.add("MixGRPO_ConvertLora", lora_file=name, model=demo[0], **words)
    loader = graph.add("LoraModelLoader", model=demo[0], lora=native[0], strength_model=1.0, bypass=True)
    return run(host, graph, {"bypass": sampling(graph, demo, loader[0])})["bypass"]


def assert_same(found, wanted, record_property, name):
    apart = float((found.latents - wanted.latents).abs().max())
    levels = int(np.abs(found.pictures - wanted.pictures).max())
    record_property(name, {"latents": apart, "levels": levels})
    print(f"{name}: latents {apart:.1e} apart, pictures {levels} levels")
    assert apart < SAME
    assert levels <= 1


def test_a_lora_of_the_canvas_does_the_same_on_every_way_through_the_host(canvas, host, record_property):
    found, file = canvas
    wanted = found["trainer"]
    moved = float((wanted.latents - found["base"].latents).abs().max())
    levels = float(np.abs(wanted.pictures - found["base"].pictures).mean())
    print(f"the LoRA moves latents by up to {moved:.2f}, pictures by {levels:.1f} levels")
    assert moved > DIFFERENT
    assert levels > 5
    name = f"mixgrpo/{file.name}"
    assert_same(found["Load LoRA Model"], wanted, record_property, "Load LoRA Model")
    assert_same(from_file(host, name), wanted, record_property, "LoraLoaderModelOnly")
    assert_same(bypassed(host, name), wanted, record_property, "bypass")


def test_a_lora_of_the_canvas_does_the_same_headless_and_in_diffusers(canvas, record_property):
    found, file = canvas
    assert_same(headless(), found["base"], record_property, "base")
    assert_same(headless(file), found["trainer"], record_property, "headless")
    assert_same(pipeline(file), found["trainer"], record_property, "pipeline")


def test_a_headless_lora_does_the_same_on_the_canvas(canvas, host, tmp_path, record_property):
    config = replace(
        demo_config(iterations=SHORT["iterations"]),
        steps=SHORT["steps"],
        images_per_prompt=SHORT["images_per_prompt"],
        prompts_per_iteration=SHORT["prompts_per_iteration"],
        learning_rate=LEARNING_RATE,
        reward_weights={},
        eval_every=0,
    )
    model = load_demo(seed=1)
    list(train(model, train_prompts()[:4], {"shape": ShapeReward()}, config))
    file = export_lora(model, host.base / "models" / "loras" / "headless.safetensors")
    base = canvas[0]["base"]
    there, here = headless(file), from_file(host, file.name)
    assert float((here.latents - base.latents).abs().max()) > DIFFERENT
    assert_same(here, there, record_property, "headless LoRA on the canvas")
    assert_same(pipeline(file), here, record_property, "headless LoRA in diffusers")
    assert load_lora(file).metadata
