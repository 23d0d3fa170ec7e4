"""Mutated LoRA files and PEFT folders, taken as the start of a run."""

import json

import torch
from safetensors.torch import save

from campaigns import mutations
from campaigns.told import TOLD
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.models.lora_file import save_lora


def layouts(folder):
    """The same LoRA of the demo model as tools write it: name -> (bytes, adapter_config or None)."""
    model = load_demo(rank=2)
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(tensor.shape, generator=generator) / 8 for name, tensor in model.lora_state().items()}
    few = {name: state[name] for name in sorted(state)[: 2 * (len(state) // 2)]}
    whole = save_lora(folder / "seed.safetensors", few).read_bytes()
    bare = {name.removeprefix("transformer."): tensor for name, tensor in few.items()}
    named = {f"transformer.{name}": tensor for name, tensor in bare.items()}
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in named})
    alphas = {f"{module}.alpha": torch.tensor(4.0) for module in modules}
    note = {"transformer.r": 2, "transformer.lora_alpha": 8, "transformer.rank_pattern": {}}
    peft = {f"base_model.model.{name}": tensor for name, tensor in bare.items()}
    adapter = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["to_q"], "alpha_pattern": {}}
    kohya = {}
    for name, tensor in bare.items():
        module, kind, _ = name.rsplit(".", 2)
        kohya[f"lora_unet_{module.replace('.', '_')}.lora_{'down' if kind == 'lora_A' else 'up'}.weight"] = tensor
    return {
        "ours": (whole, None),
        "alphas": (save({**named, **alphas}), None),
        "header": (save(named, {"lora_adapter_metadata": json.dumps(note), "format": "pt"}), None),
        "peft": (save(peft, {"format": "pt"}), adapter),
        "kohya": (save(kohya), None),
    }


class LoraFiles:
    told = TOLD

    def __init__(self, folder):
        self.seeds = layouts(folder)

    def write(self, folder, chance):
        data, adapter = self.seeds[chance.choice(sorted(self.seeds))]
        if adapter is None:
            suffix = chance.choice((".safetensors",) * 4 + (".sft", ".pt", ""))
            (folder / f"lora{suffix}").write_bytes(mutations.safetensors(chance, data))
            return
        place = folder / "lora"
        place.mkdir()
        if chance.random() < 0.5:
            adapter = mutations.dumps(mutations.value(chance, adapter))
        else:
            adapter, data = json.dumps(adapter), mutations.safetensors(chance, data)
        if chance.random() < 0.9:
            (place / "adapter_config.json").write_bytes(mutations.encoded(chance, adapter))
        (place / "adapter_model.safetensors").write_bytes(data)

    def take(self, folder):
        (path,) = folder.iterdir()
        model = load_demo(lora=str(path))
        numbers = model.lora_state()
        assert numbers and all(bool(tensor.isfinite().all()) for tensor in numbers.values()), "numbers that are none"
        return f"{len(numbers)} tensors"
