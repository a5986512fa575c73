"""Activations of decoder layers, read and replaced through forward hooks of plain modules.

    layer:  x --(+ attention(x))--(+ mlp(x))--> residual      what a component writes is read and replaced

Nothing here knows a model: a layer is a module that holds one attention and one MLP (dense or of experts).
"""

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rlcomm.omni.policy import base_model

COMPONENTS = ("residual", "attention", "mlp")
Activations = dict[tuple[str, int], torch.Tensor]  # (component, layer) -> (B, T, H)


@dataclass(frozen=True)
class Layers:
    """The modules whose outputs are read and replaced, first layer first.

    Attributes:
        residual: the layers; their output is the residual stream after them.
        attention: of each layer.
        mlp: of each layer.
    """

    residual: tuple[nn.Module, ...]
    attention: tuple[nn.Module, ...]
    mlp: tuple[nn.Module, ...]

    def __len__(self) -> int:
        return len(self.residual)

    def at(self, component: str, layer: int) -> nn.Module:
        """One of them."""
        return getattr(self, component)[layer]


@dataclass(frozen=True)
class Patch:
    """One replacement in one row of a batch.

    Attributes:
        component: of `COMPONENTS`.
        layer: from 0.
        at: positions (n,), int64.
        values: what is put there (n, H).
    """

    component: str
    layer: int
    at: torch.Tensor
    values: torch.Tensor


def decoder_of(model: Any) -> nn.Module:
    """The text decoder of a thinker, wrapped (DDP, DeepSpeed, PEFT) or not."""
    return base_model(model.module if hasattr(model, "module") else model).get_decoder()


def layers_of(decoder: nn.Module) -> Layers:
    """The layers of a decoder, found by structure: its list of modules, and in each the part that attends.

    Args:
        decoder: holds one list of layers. In a layer the attention is the child with matrices whose forward
            takes an `attention_mask`, the MLP the other child with matrices; norms have none.

    Raises:
        ValueError: it has no such list, or a layer is built otherwise.
    """
    lists = [child for child in decoder.children() if isinstance(child, nn.ModuleList)]
    if len(lists) != 1:
        raise ValueError(f"{type(decoder).__name__} holds {len(lists)} lists of layers; one was expected")
    layers = tuple(lists[0])
    attention, mlp = zip(*(_parts(layer) for layer in layers), strict=True)
    return Layers(layers, attention, mlp)


def _parts(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Attention and MLP of one layer."""
    heavy = [child for child in layer.children() if any(p.ndim > 1 for p in child.parameters())]
    attends = [child for child in heavy if "attention_mask" in inspect.signature(child.forward).parameters]
    others = [child for child in heavy if child not in attends]
    if len(attends) != 1 or len(others) != 1:
        raise ValueError(
            f"{type(layer).__name__} holds {len(attends)} attentions and {len(others)} other parts with "
            "matrices; one of each was expected"
        )
    return attends[0], others[0]


@contextlib.contextmanager
def reading(layers: Layers, components: Iterable[str] = COMPONENTS) -> Iterator[Activations]:
    """Collects what the forward inside writes; of several forwards, the last one's.

    Yields:
        (component, layer) -> output (B, T, H), filled by the forward.
    """
    found: Activations = {}

    def keep(key: tuple[str, int]) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            found[key] = _hidden(output).detach()

        return hook

    with contextlib.ExitStack() as stack:
        for component in components:
            for layer in range(len(layers)):
                handle = layers.at(component, layer).register_forward_hook(keep((component, layer)))
                stack.callback(handle.remove)
        yield found


@contextlib.contextmanager
def writing(layers: Layers, rows: Sequence[Sequence[Patch]]) -> Iterator[None]:
    """Replaces activations in the forwards inside.

    Args:
        layers: of the model that is run.
        rows: the patches of each row of its batch, (B,).
    """
    by_place: dict[tuple[str, int], list[tuple[int, Patch]]] = {}
    for row, patches in enumerate(rows):
        for patch in patches:
            by_place.setdefault((patch.component, patch.layer), []).append((row, patch))

    def put(patches: list[tuple[int, Patch]]) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            hidden = _hidden(output).clone()
            for row, patch in patches:
                hidden[row, patch.at.to(hidden.device)] = patch.values.to(hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    with contextlib.ExitStack() as stack:
        for (component, layer), some in by_place.items():
            handle = layers.at(component, layer).register_forward_hook(put(some))
            stack.callback(handle.remove)
        yield


def _hidden(output: Any) -> torch.Tensor:
    """The hidden states a module gave, alone or with something behind them (attention weights)."""
    return output[0] if isinstance(output, tuple) else output
