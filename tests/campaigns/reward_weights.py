"""Mutated weights of rewards - safetensors, torch files, folders of the hub - read and asked as a run does."""

import io
import json
import shutil

import torch
from reward_files_more import aesthetic_head, clip_vision, write_classifier
from safetensors.torch import save_file

from campaigns import mutations
from campaigns.told import TOLD
from mixgrpo_core.rewards.classifier.reward import ImageClassifier
from mixgrpo_core.rewards.embedders.aesthetic import AestheticScore
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.weight_files import Weights
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.scoring import score

PICTURES = torch.randint(0, 256, (2, 28, 28, 3), generator=torch.Generator().manual_seed(1)) / 255
SMALL = {"a.weight": torch.arange(12.0).view(3, 4), "b.bias": torch.ones(3), "c": torch.tensor(2)}


class RewardWeights:
    """The kinds: a head on an image tower, a classifier's folder, and files of any suffix read whole."""

    told = TOLD

    def __init__(self, folder):
        self.seeds = folder / "seeds"
        aesthetic, classifier = self.seeds / "aesthetic", self.seeds / "classifier"
        aesthetic.mkdir(parents=True)
        save_file(clip_vision(), aesthetic / "clip.safetensors")
        torch.save(aesthetic_head("linear", 32), aesthetic / "head.pth")
        classifier.mkdir()
        write_classifier(classifier, "vit")
        for suffix in (".pt", ".pth", ".bin", ".ckpt"):
            (self.seeds / f"file{suffix}").mkdir()
            torch.save({"state_dict": SMALL, "epoch": 4}, self.seeds / f"file{suffix}" / f"weights{suffix}")
        (self.seeds / "old").mkdir()
        torch.save(SMALL, self.seeds / "old" / "weights.pt", _use_new_zipfile_serialization=False)
        (self.seeds / "plain").mkdir()
        save_file(SMALL, self.seeds / "plain" / "weights.safetensors")
        shards = self.seeds / "shards"
        shards.mkdir()
        save_file({"a.weight": SMALL["a.weight"]}, shards / "one.safetensors")
        save_file({"b.bias": SMALL["b.bias"]}, shards / "two.safetensors")
        places = {"weight_map": {"a.weight": "one.safetensors", "b.bias": "two.safetensors"}, "metadata": {}}
        (shards / "model.safetensors.index.json").write_text(json.dumps(places))
        self.kinds = sorted(path.name for path in self.seeds.iterdir())

    def write(self, folder, chance):
        kind = chance.choice([*self.kinds, "aesthetic", "aesthetic", "classifier", "classifier"])
        shutil.copytree(self.seeds / kind, folder / kind)
        files = sorted(path for path in (folder / kind).iterdir() if path.is_file())
        path = chance.choice(files)
        given = path.read_bytes()
        if path.suffix == ".safetensors":
            given = mutations.safetensors(chance, given)
        elif path.suffix == ".json":
            table = json.loads(given)
            new = mutations.dumps(mutations.value(chance, table)) if chance.random() < 0.7 else json.dumps(table)
            given = mutations.encoded(chance, new)
        elif given.startswith(b"PK"):
            given = mutations.archive(chance, given) if chance.random() < 0.7 else _other(chance)
        else:
            given = mutations.data(chance, given)
        if chance.random() < 0.05:
            path.unlink()
        else:
            path.write_bytes(given)

    def take(self, folder):
        (place,) = folder.iterdir()
        if place.name == "aesthetic":
            head, file = str(place / "head.pth"), str(place / "clip.safetensors")
            return _asked(AestheticScore(head=head, file=file, place=Resident("cpu")))
        if place.name == "classifier":
            return _asked(ImageClassifier(str(place), "fine art", place=Resident("cpu")))
        path = place if place.name == "shards" else next(place.iterdir(), place)
        weights = Weights(path)
        found = weights.read(weights.shapes)
        assert {name: tuple(tensor.shape) for name, tensor in found.items()} == dict(weights.shapes)
        return f"{len(found)} tensors"


def _asked(reward):
    """What a run does with a reward: what it raises then is told as it is, what it returns has to be numbers."""
    reward.prepare(["a red circle"])
    batch = RewardBatch(images=PICTURES, prompts=("a red circle",) * 2)
    with torch.no_grad():
        reward(batch)  # an error here would be in a failure's words
    scores, _ = score({"it": reward}, batch)
    assert bool(scores["it"].values.isfinite().all())
    return "asked"


def _other(chance):
    """A torch file of something else than named tensors."""
    found = io.BytesIO()
    things = ([1, 2], SMALL["a.weight"], {"x": {"y": 1}}, {1: SMALL["c"]}, "text", {"state_dict": []}, {"model": None})
    torch.save(chance.choice(things), found)
    return found.getvalue()
