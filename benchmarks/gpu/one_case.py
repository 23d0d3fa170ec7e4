"""One case in this process: a random model is loaded, sampled, trained for a few iterations, and sampled again.

``canvas_training.py`` starts it with its settings as JSON, and reads its findings from the file ``out``.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from host_here import begin


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is run.

    Attributes:
        comfyui, work, out: its folder, a folder for files of weights, the file for the findings.
        model, form: ``sd3`` or ``flux``; ``bf16`` or a quantised format of the host.
        host_arguments: for ComfyUI's command line.
        side: pixels; rank: of the LoRA.
        iterations, images, prompts, steps: of the training; the window is steps 1 and 2.
        rollout_batch, update_batch: images per call.
        brief: nothing is held against the device's own speed, and nothing is profiled.
    """

    comfyui: str
    work: str
    out: str
    model: str
    form: str
    host_arguments: list[str]
    tiny: bool
    side: int
    rank: int
    iterations: int
    images: int
    prompts: int
    steps: int
    rollout_batch: int
    update_batch: int
    checkpointing: bool
    brief: bool

    @property
    def name(self) -> str:
        return " ".join([self.model, self.form, *self.host_arguments])


@dataclass
class Residence:
    """How much of the weights is on the device while the network is used, seen at every step."""

    policy: Any
    least: int | None = None
    seen: set[str] = field(default_factory=set)

    def __call__(self, event: Any) -> None:
        if getattr(event, "phase", None) not in ("rollout", "train"):
            return
        size = self.policy.patcher.loaded_size()
        self.least = size if self.least is None else min(self.least, size)
        network = self.policy.patcher.model.diffusion_model
        for module in network.modules():
            weight = getattr(module, "weight", None)
            if hasattr(module, "_v"):
                self.seen.add("dynamic")
            elif weight is not None and weight.device != self.policy.device:
                self.seen.add("streamed")

    def words(self) -> str:
        return " and ".join(sorted(self.seen)) or "resident"


class DeviceMemory(threading.Thread):
    """The most memory in use on the GPU, by torch and by whatever else: the host's dynamic memory is not torch's."""

    def __init__(self, device: Any) -> None:
        super().__init__(daemon=True)
        self.device, self.most, self._over = device, 0, threading.Event()

    def run(self) -> None:
        import torch

        while self.device.type == "cuda" and not self._over.wait(0.02):
            free, total = torch.cuda.mem_get_info(self.device)
            self.most = max(self.most, total - free)

    def __enter__(self) -> "DeviceMemory":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.join()


def run(case: Case) -> dict[str, Any]:
    """The findings; ComfyUI is loaded by now."""
    import comfy.model_management
    import torch
    from mixgrpo_pack.mixgrpo_core.rewards.pixels.measures import Brightness, Near, PixelReward
    from mixgrpo_pack.mixgrpo_core.training.loop import train

    device = comfy.model_management.get_torch_device()
    marks = {"begin": time.perf_counter()}
    with torch.inference_mode():  # as nodes run
        model, vae = load(case, device)
        marks["loaded"] = time.perf_counter()
        texts = random_texts(case)
        before, again = (base_sample(model, texts, case) for _ in range(2))
    marks["sampled"] = time.perf_counter()
    rewards = {"brightness": PixelReward(Brightness(), Near(0.5))}
    with DeviceMemory(device) as memory, torch.inference_mode(), policy_of(case, model, vae, texts) as policy:
        residence = Residence(policy)
        reports = list(train(policy, texts.train, rewards, config_of(case), observer=residence))
        torch_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0  # of the last iteration
        size = policy.patcher.model_size()
        trained = [float(tensor.norm()) for name, tensor in policy.lora_state().items() if "lora_B" in name]
        held_against = {} if case.brief else yardsticks(policy, texts, rewards, case)
    with torch.inference_mode():
        after = base_sample(model, texts, case)
    return {
        "case": asdict(case),
        "device": device_words(device),
        "seconds_to_load": marks["loaded"] - marks["begin"],
        "seconds_to_sample_base": (marks["sampled"] - marks["loaded"]) / 2,
        "model_bytes": size,
        "least_resident_bytes": residence.least,
        "weights": residence.words(),
        "patcher": type(model).__name__,
        "compute": str(model.model.get_dtype_inference()),
        "peak_torch_bytes": torch_bytes,
        "peak_device_bytes": memory.most,
        "ratio_first": [report.update.figures["ratio_first"] for report in reports],
        "ratio_noise": [report.update.ratio_noise for report in reports],
        "recomputed": [report.update.recomputed for report in reports],
        "grad_norm": [report.update.figures["grad_norm"] for report in reports],
        "seconds": [dict(report.seconds) for report in reports],
        "images_trained": [report.nfe["train"] * case.images * case.prompts for report in reports],
        **held_against,
        "rewards": [report.rewards["brightness"].mean for report in reports],
        "lora_moved": sum(norm > 0 for norm in trained) / len(trained),
        "finite": bool(torch.isfinite(before).all()),
        "repeatable": torch.equal(before, again),
        "restored": torch.equal(before, after),
    }


def yardsticks(policy: Any, texts: Any, rewards: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """What the training is held against, measured after it. Two more iterations are made, the second one under the
    profiler: what a run does when it begins is no part of it."""
    from measures import matrix_peak, operations, waits
    from mixgrpo_pack.mixgrpo_core.training.loop import train

    config, need = replace(config_of(case), iterations=2), policy.memory_need
    found = {
        "matrix_peak": matrix_peak(policy.device, 256 if case.tiny else 8192),
        "operations_of_an_image": operations(policy, texts.train[0]),
        "predicted_bytes": None if need is None else need.of(config) + policy.patcher.model_size(),
    }
    with closing(train(policy, texts.train, rewards, config)) as training:
        next(training)
        return {**found, "waits": waits(lambda: next(training), policy.device)}


def load(case: Case, device: Any) -> tuple[Any, Any]:
    """MODEL and VAE by the host's own loaders, from files that are made where they are not there yet."""
    import comfy.sd
    import comfy.utils
    from random_files import kinds, write_transformer, write_vae

    size = "tiny" if case.tiny else "full"
    transformer = Path(case.work) / f"{case.model}-{case.form}-{size}.safetensors"
    vae = Path(case.work) / f"vae-{size}.safetensors"
    if not transformer.exists():
        write_transformer(partial(transformer), kinds(case.tiny)[case.model], case.form, device).rename(transformer)
    if not vae.exists():
        write_vae(partial(vae), 32 if case.tiny else 128, device).rename(vae)
    return comfy.sd.load_diffusion_model(str(transformer)), comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(vae)))


def partial(path: Path) -> Path:
    return path.with_suffix(".partial")


def random_texts(case: Case) -> Any:
    """Prompts with random conditionings in the place of a text encoder."""
    from dataclasses import dataclass as record

    import torch
    from mixgrpo_pack.mixgrpo_core.support.seeds import derive_seed
    from mixgrpo_pack.nodes.host.texts import PromptSet
    from random_files import kinds

    kind = kinds(case.tiny)[case.model]

    @record(frozen=True, kw_only=True)
    class RandomTexts(PromptSet):
        def encode(self, text: str) -> list:
            with torch.inference_mode(False):
                draw = torch.Generator().manual_seed(derive_seed(text))
                tokens = torch.randn(1, *kind.tokens, generator=draw)
                pooled = torch.randn(1, kind.pooled, generator=draw)
            return [[tokens, {"pooled_output": pooled}]]

        def by_encoder(self, text: str) -> dict:
            """There is no encoder."""
            return {}

        def release(self) -> None:
            """There is no encoder."""

    names = tuple(f"prompt {number}" for number in range(case.prompts * case.iterations))
    return RandomTexts(train=names, held_out=(), negative="", clip=None)


def policy_of(case: Case, model: Any, vae: Any, texts: Any) -> Any:
    import torch
    from mixgrpo_pack.nodes.host.model import HostModel
    from random_files import kinds

    with torch.inference_mode(False):
        policy = HostModel(
            model,
            vae,
            texts,
            width=case.side,
            height=case.side,
            rank=case.rank,
            alpha=2.0 * case.rank,
            seed=0,
            guidance=kinds(case.tiny)[case.model].guidance,
            checkpointing=case.checkpointing,
        )
        policy.make_room(config_of(case))
        return policy


def config_of(case: Case) -> Any:
    """MixGRPO with its window at steps 1 and 2."""
    from mixgrpo_pack.mixgrpo_core import FrozenWindow, WindowPlanner, mixgrpo

    return replace(
        mixgrpo(),
        iterations=case.iterations,
        steps=case.steps,
        images_per_prompt=case.images,
        prompts_per_iteration=case.prompts,
        planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
        updates=1,
        eval_every=0,
        rollout_batch=case.rollout_batch,
        decode_batch=1,
        update_batch=case.update_batch,
    )


def base_sample(model: Any, texts: Any, case: Case) -> Any:
    """Latents of the MODEL as any workflow of the host samples it."""
    import comfy.samplers
    import torch

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(texts.encode(texts.train[0]), [])
    latent = torch.zeros(1, 16, case.side // 8, case.side // 8)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, latent, sampler, torch.linspace(1, 0, 5), disable_pbar=True).cpu()


def device_words(device: Any) -> Mapping[str, Any]:
    import torch

    if device.type != "cuda":
        return {"name": str(device), "torch": torch.__version__}
    about = torch.cuda.get_device_properties(device)
    return {"name": about.name, "bytes": about.total_memory, "torch": torch.__version__}


def main() -> None:
    case = Case(**json.loads(sys.argv[1]))
    base = Path(case.work) / "comfyui"
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    folders = ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    begin(Path(case.comfyui), [*folders, *case.host_arguments], whole=True)
    Path(case.out).write_text(json.dumps(run(case)))


if __name__ == "__main__":
    main()
