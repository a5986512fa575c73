"""A layer is traced once for all tests: that is most of what the doctor does, and the models are few."""

import pytest

from rlcomm.doctor import memory
from rlcomm.omni.grouped import Groups

_traced: dict[tuple, memory.Layer] = {}


def said(value) -> str:
    """What of an argument decides the trace."""
    if isinstance(value, Groups):
        return str([(one.context, one.start, one.stop, one.count, one.longest) for one in value.groups])
    return str(value)


@pytest.fixture
def traced_once(monkeypatch):
    trace = memory.trace

    def traced(layer, *args, **given):
        weights = [(name, p.shape, p.dtype, p.requires_grad) for name, p in layer.named_parameters()]
        kernels = [m.config._attn_implementation for m in layer.modules() if hasattr(m, "config")]
        key = (repr(layer), str(weights), str(kernels), layer.training, str(args),
               str({name: said(value) for name, value in given.items()}))  # fmt: skip
        if key not in _traced:
            _traced[key] = trace(layer, *args, **given)
        return _traced[key]

    monkeypatch.setattr(memory, "trace", traced)
