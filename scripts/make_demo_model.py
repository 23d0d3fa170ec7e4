"""Make the demo model from nothing: draw, train the autoencoder, train the flow, export.

    python scripts/make_demo_model.py                  # everything; goes on where it was interrupted
    python scripts/make_demo_model.py --snapshot       # export what the work folder holds now, half trained or not
    python scripts/make_demo_model.py --work build/try --assets build/try_assets

After the autoencoder its decoder is tuned in one process while the flow is trained in another, one thread each.
"""

import argparse
import logging
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_model import autoencoder, data, export, flow, stage
from demo_model.settings import Settings

from mixgrpo_core.models.families.caption_encoder import CaptionEncoder


def main() -> None:
    settings, snapshot, note = _command_line()
    if not snapshot:
        make(settings)
    export_latest(settings, note)


def make(settings: Settings) -> None:
    """Every stage that is not finished yet; checkpoints go to ``settings.work``."""
    _prepare_process()
    _make_latents(settings)
    _run_both(settings)


def _command_line() -> tuple[Settings, bool, str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Settings()
    parser.add_argument("--work", type=Path, default=default.work, help="checkpoints of unfinished work")
    parser.add_argument("--assets", type=Path, default=default.assets, help="where the finished model goes")
    parser.add_argument("--snapshot", action="store_true", help="train nothing, export the latest checkpoints")
    parser.add_argument("--note", default="", help="a sentence for training.json, if a run was out of the ordinary")
    found = parser.parse_args()
    return Settings(work=found.work, assets=found.assets), found.snapshot, found.note


def _prepare_process() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("demo_model").setLevel(logging.INFO)
    torch.set_num_threads(1)


def _make_latents(settings: Settings) -> None:
    """Drawings -> autoencoder -> normalised latents, unless they are there."""
    path = settings.work / "latents.pt"
    if path.exists():
        return
    images = data.drawings(settings)
    model = autoencoder.train(settings, images)
    stage.save(settings.work / "normalised.pt", model.state_dict())
    begun = time.monotonic()
    stage.save(path, {"latents": autoencoder.encode_all(model, images), "seconds": time.monotonic() - begun})


def _load(settings: Settings) -> tuple[AutoencoderTiny, Tensor]:
    model = autoencoder.build()
    model.load_state_dict(stage.load(settings.work / "normalised.pt"))
    return model, stage.load(settings.work / "latents.pt")["latents"]


def _run_both(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=work, args=(settings,)) for work in (_tune_decoder, _train_flow)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    if any(process.exitcode for process in both):
        raise SystemExit("A stage failed, see its error above. Start again to go on from the last checkpoint.")


def _tune_decoder(settings: Settings) -> None:
    _prepare_process()
    model, latents = _load(settings)
    autoencoder.tune_decoder(settings, model, data.drawings(settings), latents)


def _train_flow(settings: Settings) -> None:
    _prepare_process()
    model, latents = _load(settings)
    flow.train(settings, CaptionEncoder.create(flow.WORDS), latents, model)


def export_latest(settings: Settings, note: str) -> None:
    """Write the averaged weights of the latest checkpoints and the figures measured on the written files."""
    model = autoencoder.build()
    model.load_state_dict(stage.load(settings.work / "normalised.pt"))
    encoder = CaptionEncoder.create(flow.WORDS)
    transformer = flow.build(settings.flow.layers, encoder.width)
    stages: dict[str, Any] = {"autoencoder": _journal(settings.work / "autoencoder.pt")}
    stages["latents"] = {"seconds": round(stage.load(settings.work / "latents.pt")["seconds"])}
    for name, module in (("decoder", model.decoder), ("flow", transformer)):
        path = settings.work / f"{name}.pt"
        if path.exists():
            module.load_state_dict(stage.load(path)["average"])
            stages[name] = _journal(path)
    export.write(settings, transformer, model, encoder)
    export.write_report(settings, stages, note)


def _journal(path: Path) -> dict[str, Any]:
    return stage.summary(stage.load(path))


if __name__ == "__main__":
    main()
