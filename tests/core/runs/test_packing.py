"""A state that is taken apart comes back, and of a GPU it is copied with one wait."""

import torch
from pretend_gpu import GPU, PretendGpu

from mixgrpo_core.runs.packing import Packer, unpack
from mixgrpo_core.support.queued import sent


def packed_and_unpacked(state, buffers):
    packer = Packer(buffers)
    made = packer.pack("state", state)
    return unpack(made, packer.tensors, copied=False)


def test_the_weights_of_a_gpu_are_copied_with_one_wait():
    state = {"lora": {f"layer {n}": torch.full((2, n + 1), float(n)) for n in range(5)}, "steps": [torch.tensor(3), 7]}
    buffers = {}
    with PretendGpu() as gpu:
        for add in (0.0, 1.0):
            there = {name: sent(tensor + add, GPU) for name, tensor in state["lora"].items()}
            gpu.waits.clear()
            found = packed_and_unpacked({**state, "lora": there}, buffers)
            assert dict(+gpu.waits) == {"synchronize": 1}
            for name, tensor in state["lora"].items():
                assert found["lora"][name].device.type == "cpu"
                assert torch.equal(found["lora"][name], tensor + add)
            assert found["steps"] == [torch.tensor(3), 7]
        kept = found["lora"]["layer 0"]
    assert kept.data_ptr() == buffers["state.lora.layer 0"].data_ptr(), "the second time nothing new is taken"
