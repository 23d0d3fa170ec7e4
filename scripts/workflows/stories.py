"""The example workflows: one story a file."""

from .demo_prompts import demo_prompts
from .reward_stories import score_and_rank, your_taste
from .story import Story

PORTRAITS = """\
portrait of an old fisherman, window light
portrait of a young violinist on a stage
portrait of a botanist among ferns
portrait of a mechanic in a workshop
portrait of a dancer in a red coat
portrait of a chef in a busy kitchen
portrait of a woman reading on a train
portrait of a boy with a paper boat
"""
CLIP_FILES = ("clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors")
SD35 = "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors"
FLUX = "flux1-dev-fp8.safetensors"
DEMO_LORA = "mixgrpo/demo-lora-last.safetensors"


MODEL_FILES = (
    *(f"checkpoints/{SD35}", f"diffusion_models/{FLUX}", "vae/ae.safetensors"),
    *(f"text_encoders/{name}" for name in CLIP_FILES),
)
"""The files that the stories' loaders name, under ``models``; the demo's LoRA is made by the first story."""


def first_lora() -> Story:
    story = Story("1_first_lora_on_the_demo_model")
    story.note(
        (40, -200),
        (740, 170),
        "## Your first LoRA by reinforcement learning\n\nPress **Run**. The demo model ships with this pack: no "
        "download, and a CPU needs about two minutes.\n\nThe model draws shapes but listens to its captions "
        "only half of the time. It makes groups of images, the reward says which of each group are right, and the LoRA "
        "learns from the difference. Watch *adherence* rise in the trainer; stop when you like what you see.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 60), size=(360, 70))
    story.node("prompts", "MixGRPO_PromptSet", (40, 230), demo_prompts(), size=(360, 632), clip="demo.clip")
    story.node("reward", "MixGRPO_DemoReward", (460, 320), size=(320, 110))
    values = {"preset": "Demo", "model_family": "demo", "memory": "plenty"}
    story.node("settings", "MixGRPO_TrainerSettings", (460, 504), values, size=(320, 358))
    story.group("what it learns, and how", (20, -10, 780, 892))
    story.node(
        "train",
        "MixGRPO_TrainLora",
        (860, 60),
        {"run_name": "demo-lora"},
        size=(480, 940),
        model="demo.model",
        vae="demo.vae",
        prompts="prompts.prompts",
        rewards="reward.reward",
        settings="settings.settings",
    )
    _drawn(story, (1420, 60))
    story.node("grid", "PreviewImage", (1420, 740), size=(500, 302), images="train.grid", title="before and after")
    story.node("curve", "PreviewImage", (1980, 740), size=(540, 302), images="train.curve", title="the run")
    return story


def _drawn(story: Story, at: tuple[int, int]) -> None:
    """The trained model, used in the same graph."""
    x, y = at
    text = {"text": "a small red circle on the left"}
    story.node("positive", "CLIPTextEncode", (x, y + 90), text, size=(300, 110), clip="demo.clip")
    story.node("empty", "CLIPTextEncode", (x, y + 270), {"text": ""}, size=(300, 90), clip="demo.clip")
    sides = {"width": 64, "height": 64, "batch_size": 8}
    story.node("latent", "EmptySD3LatentImage", (x, y + 440), sides, size=(300, 110))
    values = {"seed": 7, "control_after_generate": "fixed", "steps": 20, "cfg": 1.0, "sampler_name": "euler"}
    values["scheduler"] = "simple"
    story.node(
        "sample",
        "KSampler",
        (x + 360, y),
        values,
        size=(280, 270),
        model="train.model",
        positive="positive.CONDITIONING",
        negative="empty.CONDITIONING",
        latent_image="latent.LATENT",
    )
    story.node("decode", "VAEDecode", (x + 360, y + 350), size=(280, 50), samples="sample.LATENT", vae="demo.vae")
    story.node("show", "PreviewImage", (x + 700, y), size=(400, 552), images="decode.IMAGE", title="with the LoRA")
    story.group("the LoRA in the same graph", (x - 20, y - 70, 1140, 652))


def window_sampling() -> Story:
    story = Story("2_sampling_with_a_window")
    story.note(
        (40, -180),
        (700, 150),
        "## Noise in a window\n\nMixGRPO samples some steps by an SDE and all others by an ODE. All eight images start "
        "from the *same* noise: they differ by what the window adds. Drag the window: early steps change structure, "
        "late ones detail. Without the window, and with *window_size* 0, they are all alike and equal to *euler*.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 60), size=(340, 70))
    text = {"text": "a large blue square on the right"}
    story.node("positive", "CLIPTextEncode", (40, 230), text, size=(340, 110), clip="demo.clip")
    sides = {"width": 64, "height": 64, "batch_size": 8}
    story.node("latent", "EmptySD3LatentImage", (40, 410), sides, size=(340, 110))
    story.node("window", "MixGRPO_Window", (40, 600), {"start": 0, "size": 4, "steps": 25}, size=(340, 360))
    seed = {"noise_seed": 11, "control_after_generate": "fixed"}
    story.node("noise", "RandomNoise", (440, 160), seed, size=(300, 82))
    story.node(
        "guider", "BasicGuider", (440, 310), size=(300, 50), model="demo.model", conditioning="positive.CONDITIONING"
    )
    same = {"seed_behavior": "fixed"}  # one noise for the whole batch
    story.node("same", "LatentBatchSeedBehavior", (440, 432), same, size=(300, 60), samples="latent.LATENT")
    values = {"scheduler": "simple", "steps": 25, "denoise": 1.0}
    story.node("sigmas", "BasicScheduler", (440, 564), values, size=(300, 110), model="demo.model")
    values = {"kernel": "FlowSDE", "eta": 0.7}
    story.node("sampler", "MixGRPO_Sampler", (440, 750), values, size=(300, 230), window="window.window")
    story.node(
        "sample",
        "SamplerCustomAdvanced",
        (820, 310),
        size=(260, 110),
        noise="noise.NOISE",
        guider="guider.GUIDER",
        sampler="sampler.sampler",
        sigmas="sigmas.SIGMAS",
        latent_image="same.LATENT",
    )
    story.node("decode", "VAEDecode", (820, 60), size=(260, 50), samples="sample.output", vae="demo.vae")
    story.node(
        "show", "PreviewImage", (1140, 60), size=(620, 360), images="decode.IMAGE", title="one noise, one window"
    )
    plan = {"iterations": 100}
    story.node("plan", "MixGRPO_WindowPlan", (1140, 500), plan, size=(620, 480), window="window.window")
    return story


def sd35() -> Story:
    story = Story("3_train_sd35_with_rewards")
    story.note(
        (40, -230),
        (720, 190),
        "## Stable Diffusion 3.5 Medium\n\nA LoRA that makes portraits crisp and calm in colour, from two rewards that "
        "need no download. Put **" + SD35 + "** into *models/checkpoints*.\n\nQueue **Fit Check** first (it is "
        "bypassed: select it and press Ctrl+B): it says how long an iteration takes and whether it fits your GPU. Not "
        "tried on a GPU by us yet: start small.",
    )
    story.node("load", "CheckpointLoaderSimple", (40, 60), {"ckpt_name": SD35}, size=(360, 100))
    _portraits(story, "load.CLIP", at=(40, 240), height=628)
    story.node("crisp", "MixGRPO_PixelReward", (460, 330), {"measure": "sharpness", "goal": "more"}, size=(300, 150))
    calm = {"measure": "colourfulness", "goal": "near the target", "target": 33.0}
    story.node("calm", "MixGRPO_PixelReward", (460, 570), calm, size=(300, 150))
    story.node("both", "MixGRPO_CombineRewards", (820, 330), size=(320, 100))
    story.wires += [("crisp", "reward", "both", "rewards.reward0"), ("calm", "reward", "both", "rewards.reward1")]
    values = {"preset": "MixGRPO-Flash", "model_family": "SD3.5", "memory": "24 GB"}
    story.node("settings", "MixGRPO_TrainerSettings", (820, 510), values, size=(320, 358))
    _trained(story, 1220, model="load.MODEL", vae="load.VAE", rewards="both.rewards", name="portraits-sd35")
    story.node("curve", "PreviewImage", (1760, 60), size=(460, 440), images="train.curve", title="the run")
    story.node("grid", "PreviewImage", (1760, 570), size=(460, 472), images="train.grid", title="before and after")
    story.group("what it learns, and how", (20, -10, 1140, 898))
    return story


def flux() -> Story:
    story = Story("4_train_flux_with_flash")
    story.note(
        (40, -230),
        (720, 190),
        "## FLUX.1-dev with MixGRPO-Flash\n\nThe window's tail is sampled by DPM-Solver++ in fewer steps. An fp8 base "
        "is trained through as it is; the LoRA fits the full model, too.\n\nFiles: **" + FLUX + "** in "
        "*models/diffusion_models*, *clip_l* and *t5xxl* in *models/text_encoders*, *ae* in *models/vae*. Not tried on "
        "a GPU by us yet: start with Fit Check.",
    )
    unet = {"unet_name": FLUX, "weight_dtype": "default"}
    story.node("load", "UNETLoader", (40, 60), unet, size=(360, 90))
    story.node("vae", "VAELoader", (40, 230), {"vae_name": "ae.safetensors"}, size=(360, 60))
    clip = {"clip_name1": CLIP_FILES[0], "clip_name2": CLIP_FILES[1], "type": "flux"}
    story.node("clip", "DualCLIPLoader", (40, 360), clip, size=(360, 130))
    _portraits(story, "clip.CLIP", at=(460, 360), height=612)
    story.node("contrast", "MixGRPO_PixelReward", (880, 430), {"measure": "contrast", "goal": "more"}, size=(320, 150))
    values = {"preset": "MixGRPO-Flash", "model_family": "FLUX.1-dev", "memory": "24 GB"}
    story.node("settings", "MixGRPO_TrainerSettings", (880, 674), values, size=(320, 298))
    _trained(story, 1280, model="load.MODEL", vae="vae.VAE", rewards="contrast.reward", name="portraits-flux")
    story.node("grid", "PreviewImage", (1820, 60), size=(480, 420), images="train.grid", title="before and after")
    story.node("plan", "MixGRPO_WindowPlan", (1820, 560), size=(480, 482), settings="settings.settings")
    story.group("what it learns, and how", (20, -10, 1200, 1064))
    return story


def _portraits(story: Story, clip: str, *, at: tuple[int, int], height: int) -> None:
    story.node("prompts", "MixGRPO_PromptSet", at, {"prompts": PORTRAITS}, size=(360, height), clip=clip)


def _trained(story: Story, x: int, *, model: str, vae: str, rewards: str, name: str) -> None:
    """Fit Check, bypassed, above the trainer."""
    wires = {
        "model": model,
        "vae": vae,
        "prompts": "prompts.prompts",
        "rewards": rewards,
        "settings": "settings.settings",
    }
    story.node("fit", "MixGRPO_FitCheck", (x, -230), size=(480, 190), **wires)
    story.nodes[-1]["mode"] = 4
    story.node("train", "MixGRPO_TrainLora", (x, 60), {"run_name": name}, size=(480, 940), **wires)


def compare() -> Story:
    story = Story("5_compare_and_hybrid")
    story.note(
        (40, -200),
        (360, 170),
        "## What did the LoRA learn?\n\nThe same prompts and noise without the LoRA, with it, and *hybrid*: the LoRA "
        "for most of the steps, the base model for the rest, which keeps the base's detail.\n\nIt needs the LoRA of "
        "the first workflow: run that one before.",
    )
    story.node("demo", "MixGRPO_DemoModel", (40, 60), size=(360, 70))
    lora = {"lora_name": DEMO_LORA, "strength_model": 1.0}
    story.node("lora", "LoraLoaderModelOnly", (460, -200), lora, size=(340, 90), model="demo.model")
    story.node("prompts", "MixGRPO_PromptSet", (40, 230), demo_prompts(), size=(360, 632), clip="demo.clip")
    values = {"preset": "Demo", "model_family": "demo", "memory": "plenty"}
    story.node("settings", "MixGRPO_TrainerSettings", (460, 320), values, size=(340, 298))
    story.node("reward", "MixGRPO_DemoReward", (460, 752), size=(340, 110))
    story.node(
        "compare",
        "MixGRPO_CompareLora",
        (880, -200),
        {"most_prompts": 6, "images": 4, "hybrid": 0.8},
        size=(740, 1062),
        model="demo.model",
        model_with_lora="lora.MODEL",
        vae="demo.vae",
        prompts="prompts.prompts",
        settings="settings.settings",
        rewards="reward.reward",
    )
    story.node("table", "PreviewAny", (1680, -200), size=(420, 340), source="compare.table", title="rewards")
    return story


STORIES = [first_lora(), window_sampling(), sd35(), flux(), compare(), score_and_rank(), your_taste()]
