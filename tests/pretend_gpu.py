"""A GPU that is not there: tensors that say they are on it and compute on the CPU, and a count of what would wait.

Code takes the way that it takes for ``cuda``, and everything that it asks of torch is looked at: a number that is read
(also to know a shape), a copy between the devices that is not queued, and an index on the CPU are waits. What a GPU
refuses, a tensor of the CPU among its own, is refused. How long anything takes, and what torch's own kernels wait for
inside, is not seen.
"""

from collections import Counter
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten = torch.ops.aten
GPU, _STAND_IN = torch.device("cuda", 0), torch.device("meta")
_READS = {
    aten._local_scalar_dense,
    aten.equal,
    aten.nonzero,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.masked_select,
}
_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}


class OnGpu(Tensor):
    """A tensor of the pretended GPU; ``held`` has its numbers. Made by `PretendGpu`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held):
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_STAND_IN,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} of a tensor of the pretended GPU, which is over")


class PretendGpu:
    """While it is entered there is a GPU. ``waits`` counts what waited for it, by name."""

    def __init__(self):
        self.waits = Counter()
        self.pinned = {}  # by address; they live as long, so that no other tensor gets it

    def __enter__(self):
        self._stack = ExitStack()
        for name in ("synchronize", "mem_get_info"):
            self._stack.enter_context(patch.object(torch.cuda, name, self._waiting(name)))
        self._stack.enter_context(patch.object(torch.cuda, "reset_peak_memory_stats", lambda device: None))
        self._stack.enter_context(patch.object(torch.cuda, "max_memory_reserved", lambda device: 0))
        self._stack.enter_context(patch.object(torch.cuda, "get_device_name", lambda device: "pretended"))
        stream = SimpleNamespace(synchronize=self._waiting("synchronize"))
        self._stack.enter_context(patch.object(torch.cuda, "current_stream", lambda device: stream))
        self._stack.enter_context(patch.object(torch.cuda, "Stream", lambda device: None))
        self._stack.enter_context(patch.object(torch.cuda, "Event", lambda **named: _Event(self)))
        self._stack.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: self._pin(tensor)))
        torch.__future__.set_swap_module_params_on_conversion(True)  # a moved parameter stays the object that it is
        self._stack.callback(torch.__future__.set_swap_module_params_on_conversion, False)
        self._stack.enter_context(_Named())
        self._stack.enter_context(_Dispatched(self))
        return self

    def __exit__(self, *exception):
        self._stack.close()
        self.pinned.clear()

    @staticmethod
    @contextmanager
    def away():
        """Inside there is none: what is loaded there is on the CPU."""
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            yield

    def _waiting(self, name):
        def wait(*args):
            self.waits[name] += 1
            return (0, 0)

        return wait

    def _pin(self, tensor):
        made = tensor.clone()
        self.pinned[made.data_ptr()] = made
        return made


class _Event:
    """Of a queue that is always empty."""

    def __init__(self, gpu):
        self.gpu = gpu

    def record(self, stream):
        pass

    def synchronize(self):
        self.gpu.waits["event"] += 1

    def elapsed_time(self, other):
        return 0.0


class _Named(TorchFunctionMode):
    """Torch is not asked for a device that it was built without."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def there(value):
            named = isinstance(value, torch.device) and value.type == "cuda" and func is not torch.device
            return _STAND_IN if named else value

        named = {name: there(value) for name, value in (kwargs or {}).items()}
        of_python = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if of_python and named.get("device") is _STAND_IN:  # numbers that are copied
            return func(*args, **{**named, "device": torch.device("cpu")}).to(_STAND_IN)
        return func(*map(there, args), **named)


def _tensors(values):
    for value in values:
        if isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, Tensor):
            yield value


def _held(value):
    if isinstance(value, list | tuple):
        return type(value)(map(_held, value))
    return value.held if isinstance(value, OnGpu) else value


class _Dispatched(TorchDispatchMode):
    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = list(_tensors((*args, *kwargs.values())))
        ours = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
        assert all(tensor.device.type != "meta" for tensor in tensors), f"{func}: a tensor without numbers"
        asked = kwargs.get("device")
        there = bool(ours) if asked is None else asked.type == "meta"
        self._look(func.overloadpacket, args, kwargs, tensors, ours, there)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        pinned = kwargs.pop("pin_memory", None)
        made = func(*map(_held, args), **{name: _held(value) for name, value in kwargs.items()})
        if pinned:
            self.gpu.pinned[made.data_ptr()] = made
        known = {id(tensor.held): tensor for tensor in ours}

        def answer(value):
            if isinstance(value, list | tuple):
                return type(value)(map(answer, value))
            if not isinstance(value, Tensor) or not there:
                return value
            return known[id(value)] if id(value) in known else OnGpu(value)

        return answer(made)

    def _look(self, packet, args, kwargs, tensors, ours, there):
        waits = self.gpu.waits
        if packet in (aten._to_copy, aten.copy_):
            source = args[1] if packet is aten.copy_ else args[0]
            there = isinstance(args[0], OnGpu) if packet is aten.copy_ else there
            queued = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            pinned = any(one.data_ptr() in self.gpu.pinned for one in args[:2] if type(one) is Tensor)
            if isinstance(source, OnGpu) != there and not (queued and pinned):
                waits["from the GPU" if not there else "to the GPU"] += 1
        elif packet in _READS and ours:
            waits[packet.__name__] += 1
        elif packet is aten.repeat_interleave and ours and not kwargs.get("output_size"):
            waits["repeat_interleave"] += 1
        elif packet in _INDEXED and isinstance(args[0], OnGpu):
            for index in (value for value in args[1] if isinstance(value, Tensor)):
                waits["index on the CPU"] += not isinstance(index, OnGpu)
                waits["mask"] += index.dtype == torch.bool
        elif ours:
            strange = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.dim()]
            assert not strange, f"{packet}: a tensor of the CPU {tuple(strange[0].shape)} among those of the GPU"
