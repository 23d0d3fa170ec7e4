"""The stories of the demo model, which ships with the pack: nothing to download."""

from .demo_prompts import demo_prompts
from .story import Story

DEMO_LORA = "mixgrpo/demo-lora-last.safetensors"
"""Made by the first story."""
VOTED_RUN = "my-taste"
"""Made by the second one."""
TASTE_LORA = f"mixgrpo/{VOTED_RUN}-last.safetensors"
_DEMO = {"preset": "Demo", "model_family": "demo", "memory": "plenty"}
_FEW_IMAGES = _DEMO | {"learning_rate": 5e-4}
"""At a fixed rate, where people score a few images an iteration."""
_LANE = 100  # below the wires of model and vae


def first_lora() -> Story:
    story = Story("1_first_lora_on_the_demo_model")
    story.column(320)
    story.node("demo", "MixGRPO_DemoModel")
    story.note(
        330,
        "## Your first LoRA by rewards\n\nPress **Run**. Nothing to download; a quiet CPU core needs about two "
        "minutes.\n\nThe demo model draws shapes but listens to its captions only half of the time. It makes groups of "
        "images, the reward says which of each are right, and the LoRA learns from the difference.\n\nWatch "
        "*adherence* rise in the trainer, and press *Stop and keep* when you like what you see. Then open "
        "**5 compare** to try the LoRA.",
    )
    story.column(380, _LANE)
    story.node("prompts", "MixGRPO_PromptSet", demo_prompts(), height=320, clip="demo.clip")
    story.node("reward", "MixGRPO_DemoReward")
    story.node("settings", "MixGRPO_TrainerSettings", _DEMO)
    story.column(520)
    _trainer(story, "demo-lora", "reward.reward")
    _results(story)
    return story


def your_taste() -> Story:
    story = Story("2_train_by_your_votes")
    story.column(340)
    story.node("demo", "MixGRPO_DemoModel")
    story.note(
        300,
        "## You are the reward\n\nPress **Run**, then vote in the trainer: thumbs up for what you want, down for what "
        "you do not. Try *only red ones*, or *only circles*.\n\nA group waits for you for two minutes; then the votes "
        "that came count. Reload the page if you like: the vote is still there.\n\n*Saturation* has weight 0: it is "
        "only watched.",
    )
    story.node("vote", "MixGRPO_HumanVote", {"time_limit": 120})
    story.node("watch", "MixGRPO_PixelReward", {"measure": "saturation", "weight": 0.0})
    story.column(380, _LANE)
    story.node("prompts", "MixGRPO_PromptSet", demo_prompts(), height=300, clip="demo.clip")
    story.rewards("vote", "watch")
    values = {"iterations": 12, "images_per_prompt": 9, "prompts_per_iteration": 2}
    story.node("settings", "MixGRPO_TrainerSettings", _FEW_IMAGES | values)
    story.column(520)
    _trainer(story, VOTED_RUN, "both.rewards")
    _results(story)
    return story


def learnt_taste() -> Story:
    story = Story("8_train_by_a_learnt_taste")
    story.column(340)
    story.node("demo", "MixGRPO_DemoModel")
    story.note(
        330,
        "## It learns what you like\n\nPress **Run**, then vote in the trainer: thumbs up for what you want, down for "
        "what you do not. Try *only dark backgrounds*, or *only red ones*.\n\nAfter a few groups it knows enough to go "
        "on alone, and asks only where it is not sure. Its newest taste is in the run's folder, and another run can "
        "begin with it.\n\n*Saturation* has weight 0: it is only watched.",
    )
    story.node("taste", "MixGRPO_TasteReward", {"time_limit": 120, "groups_asked": 12})
    story.node("watch", "MixGRPO_PixelReward", {"measure": "saturation", "weight": 0.0})
    story.column(380, _LANE)
    story.node("prompts", "MixGRPO_PromptSet", demo_prompts(), height=300, clip="demo.clip")
    story.rewards("taste", "watch")
    values = {"iterations": 20, "images_per_prompt": 9, "prompts_per_iteration": 4}
    story.node("settings", "MixGRPO_TrainerSettings", _FEW_IMAGES | values)
    story.column(520)
    _trainer(story, "learnt-taste", "both.rewards")
    _results(story)
    return story


def align_on_votes() -> Story:
    story = Story("9_align_on_votes")
    story.column(320)
    story.node("demo", "MixGRPO_DemoModel")
    story.note(
        290,
        "## The same votes, another LoRA\n\nRun **2 train by your votes** before and vote on a few groups: this one "
        f"learns from the votes of its run, **{VOTED_RUN}**. Press **R** if *run* does not list it yet.\n\nNo images "
        "are made and nobody is asked, so it takes seconds, and you can try another *form* or *learning_rate* at once. "
        "The report says how many pairs of images it tells apart that it was not trained on, and whether it draws "
        "what you like worse than before.",
    )
    story.column(420, _LANE)
    story.node(
        "align",
        "MixGRPO_AlignOnVotes",
        {"run": VOTED_RUN, "updates": 60, "rank": 8},
        model="demo.model",
        clip="demo.clip",
        vae="demo.vae",
    )
    story.column(520)
    story.node("grid", "PreviewImage", height=440, images="align.grid", title="before and after")
    story.node("report", "PreviewAny", height=260, source="align.report", title="how it went")
    return story


def merge_loras() -> Story:
    story = Story("10_merge_two_loras")
    story.column(320)
    story.node("demo", "MixGRPO_DemoModel")
    story.node("settings", "MixGRPO_TrainerSettings", _DEMO)
    story.note(
        330,
        "## One LoRA of two\n\nRun **1 first lora** and **2 train by your votes** before: this one takes their LoRAs, "
        f"**output/loras/{DEMO_LORA}** and\n**output/loras/{TASTE_LORA}**, or choose two others.\n\nA LoRA is for "
        "the captions beside it: here the first for figures on the left and right, yours for those at the top and "
        "bottom. The merged one does on each caption what the LoRA for it does; the report says how far it still is "
        "from each.\n\n*exact sum* needs no training: both LoRAs then act on every caption.",
    )
    story.column(340, 2 * _LANE + 10)  # below the wires of model, VAE and settings
    for key, places in (("first", ("on the left", "on the right")), ("taste", ("at the top", "at the bottom"))):
        prompts, title = demo_prompts(*places), " and ".join(places)
        story.node(f"prompts {key}", "MixGRPO_PromptSet", prompts, height=260, clip="demo.clip", title=title)
    story.column(330, 2 * _LANE + 10)
    for key, file in (("first", DEMO_LORA), ("taste", TASTE_LORA)):
        story.node(key, "MixGRPO_LoraTeacher", {"lora_file": file}, prompts=f"prompts {key}.prompts")
    story.column(400)
    wires = {"model": "demo.model", "vae": "demo.vae", "settings": "settings.settings"}
    story.node("merge", "MixGRPO_MergeLoras", {"how.updates": 60, "how.rank": 8, "name": "merged-demo"}, **wires)
    story.wires += [
        (key, "teacher", "merge", f"teachers.teacher{place}") for place, key in enumerate(("first", "taste"))
    ]
    story.column(480)
    story.node("grid", "PreviewImage", height=520, images="merge.grid", title="base model, each LoRA, merged")
    story.node("report", "PreviewAny", height=240, source="merge.report", title="how far it is from each")
    return story


def _trainer(story: Story, name: str, rewards: str) -> None:
    wires = {"model": "demo.model", "vae": "demo.vae", "prompts": "prompts.prompts", "rewards": rewards}
    story.node("train", "MixGRPO_TrainLora", {"run_name": name}, **wires, settings="settings.settings")


def _results(story: Story) -> None:
    story.column(480)
    story.node("grid", "PreviewImage", height=480, images="train.grid", title="before and after")
    story.node("curve", "PreviewImage", height=480, images="train.curve", title="the run")


def compare() -> Story:
    story = Story("5_compare_with_and_without_a_lora")
    story.column(320)
    story.node("demo", "MixGRPO_DemoModel")
    story.node("settings", "MixGRPO_TrainerSettings", _DEMO)
    story.note(
        300,
        "## What did the LoRA learn?\n\nRun **1 first lora** before: this one loads its LoRA,\n"
        f"**output/loras/{DEMO_LORA}**.\n\nThe same prompts and noise without the LoRA, with it, and *hybrid*: the "
        "LoRA for most of the steps, the base model for the rest, which keeps the base's detail.",
    )
    story.column(380, 2 * _LANE + 10)  # below the wire of the settings, too
    lora = {"lora_name": DEMO_LORA, "strength_model": 1.0}
    story.node("lora", "LoraLoaderModelOnly", lora, model="demo.model")
    story.node("prompts", "MixGRPO_PromptSet", demo_prompts(), height=240, clip="demo.clip")
    story.node("reward", "MixGRPO_DemoReward")
    story.column(700)
    story.node(
        "compare",
        "MixGRPO_CompareLora",
        {"most_prompts": 6, "images": 4, "hybrid": 0.8},
        height=1080,
        model="demo.model",
        model_with_lora="lora.MODEL",
        vae="demo.vae",
        prompts="prompts.prompts",
        settings="settings.settings",
        rewards="reward.reward",
    )
    story.column(380)
    story.node("table", "PreviewAny", height=340, source="compare.table", title="rewards")
    return story


def score_and_rank() -> Story:
    story = Story("6_score_and_rank_images")
    story.column(260)
    story.node("demo", "MixGRPO_DemoModel")
    story.note(
        380,
        "## Which is the best?\n\n*Score Images* ranks any images by any rewards, without a training: see what a "
        "reward likes before it teaches your model.\n\nThe demo model draws sixteen pictures of one caption; one "
        "reward asks for the right shape and colour, the other for calm pictures.\n\nTake *Load Image* instead of the "
        "demo, or any other reward.",
    )
    caption = "a large blue square on the right"
    story.column(280, 2 * _LANE + 30)
    story.node("positive", "CLIPTextEncode", {"text": caption}, height=110, clip="demo.clip")
    story.node("empty", "CLIPTextEncode", {"text": ""}, height=90, clip="demo.clip", title="nothing to avoid")
    story.node("latent", "EmptySD3LatentImage", {"width": 64, "height": 64, "batch_size": 16})
    story.node("right", "MixGRPO_DemoReward", {"measure": "drawing"})
    story.node("calm", "MixGRPO_PixelReward", {"measure": "contrast", "goal": "less", "weight": 0.2})
    story.column(270, _LANE)
    values = {"seed": 3, "control_after_generate": "fixed", "steps": 20, "cfg": 1.0, "sampler_name": "euler"}
    wires = {"model": "demo.model", "positive": "positive.CONDITIONING", "negative": "empty.CONDITIONING"}
    story.node("sample", "KSampler", {**values, "scheduler": "simple"}, **wires, latent_image="latent.LATENT")
    story.rewards("right", "calm")
    story.column(225)
    story.node("decode", "VAEDecode", samples="sample.LATENT", vae="demo.vae")
    story.column(400, 60)
    values = {"prompt": caption, "keep": 4}
    wires = {"images": "decode.IMAGE", "rewards": "both.rewards"}
    story.node("score", "MixGRPO_ScoreImages", values, height=620, **wires)
    story.column(240)
    story.node("best", "PreviewImage", height=330, images="score.images", title="the best four")
    story.node("table", "PreviewAny", height=400, source="score.table", title="why")
    return story


def window_sampling() -> Story:
    story = Story("7_sample_with_a_window")
    story.column(250)
    story.node("demo", "MixGRPO_DemoModel")
    story.note(
        380,
        "## Noise in a window\n\nAll eight images start from the *same* noise: they differ by what the window adds. "
        "**Drag the window and press Run**: early steps change structure, late ones detail.\n\nMixGRPO trains the "
        "steps in the window only; all others are plain ODE steps. Without the window, and with *window_size* 0, the "
        "images are all alike and equal to *euler*.",
    )
    story.column(290, 400)
    text = {"text": "a large blue square on the right"}
    story.node("positive", "CLIPTextEncode", text, height=110, clip="demo.clip")
    story.node("latent", "EmptySD3LatentImage", {"width": 64, "height": 64, "batch_size": 8})
    story.node("window", "MixGRPO_Window", {"start": 0, "size": 4, "steps": 25})
    story.column(270, _LANE)
    story.node("guider", "BasicGuider", model="demo.model", conditioning="positive.CONDITIONING")
    values = {"scheduler": "simple", "steps": 25, "denoise": 1.0}
    story.node("sigmas", "BasicScheduler", values, model="demo.model")
    story.node("noise", "RandomNoise", {"noise_seed": 11, "control_after_generate": "fixed"})
    same = {"seed_behavior": "fixed"}  # one noise for the whole batch
    story.node("same", "LatentBatchSeedBehavior", same, samples="latent.LATENT")
    story.node("sampler", "MixGRPO_Sampler", {"kernel": "FlowSDE", "eta": 0.7}, window="window.window")
    story.column(240, _LANE + 90)
    story.node(
        "sample",
        "SamplerCustomAdvanced",
        noise="noise.NOISE",
        guider="guider.GUIDER",
        sampler="sampler.sampler",
        sigmas="sigmas.SIGMAS",
        latent_image="same.LATENT",
    )
    story.column(225)
    story.node("decode", "VAEDecode", samples="sample.output", vae="demo.vae")
    story.column(370)
    story.node("show", "PreviewImage", height=460, images="decode.IMAGE", title="one noise, one window")
    return story
