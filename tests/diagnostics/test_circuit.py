"""A hand-built two-layer transformer whose circuit is known: patching finds it, all of it and nothing else.

tokens   start   said   filler   relay                  answer
layer 0                          attention reads said
layer 1                                                 attention reads the relay, MLP writes the margin
"""

import pytest
import torch
from torch import nn

from rlcomm.diagnostics.hooks import COMPONENTS, layers_of, reading, writing
from rlcomm.diagnostics.patching import recovery, sweep
from rlcomm.diagnostics.segments import pairings

START, SAID, FILLER, RELAY, ANSWER = range(5)  # tokens, each with a dimension that names it
CONTENT, RELAYED, MESSAGE, OUT = range(5, 9)
WIDTH, SHARP = 9, 60.0


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x, attention_mask):
        weights = (self.q(x) @ self.k(x).mT + attention_mask).softmax(-1)
        return self.o(weights @ self.v(x)), weights  # as in transformers

    def plant(self, who, looks_at, reads, writes):
        """`who` copies a feature of `looks_at`; every other token looks at the silent first one."""
        for token in range(5):
            self.k.weight[token, token] = 1.0
            self.q.weight[looks_at if token == who else START, token] = SHARP
        self.v.weight[0, reads] = self.o.weight[writes, 0] = 1.0


class Feed(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, WIDTH, bias=False)

    def forward(self, x):
        return self.down(self.up(x).relu())

    def plant(self, reads, writes):
        self.up.weight[:, reads] = torch.tensor([1.0, -1.0])
        self.down.weight[writes] = torch.tensor([1.0, -1.0])


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixer, self.norm, self.feed = Attention(), nn.LayerNorm(WIDTH), Feed()  # no norm is applied

    def forward(self, x, attention_mask):
        x = x + self.mixer(x, attention_mask)[0]
        return x + self.feed(x)


class Toy(nn.Module):
    """Two layers of zeros; the margin is what stands in OUT at the last token."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList([Layer(), Layer()])
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()

    def forward(self, x):
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
        for block in self.blocks:
            x = block(x, mask)
        return x[:, -1, OUT]


@torch.no_grad()
def planted():
    toy = Toy()
    toy.blocks[0].mixer.plant(RELAY, SAID, CONTENT, RELAYED)
    toy.blocks[1].mixer.plant(ANSWER, RELAY, RELAYED, MESSAGE)
    toy.blocks[1].feed.plant(MESSAGE, OUT)
    return toy


def branch(said, fillers=1):
    """Embeddings (T, WIDTH) and the places of its groups."""
    tokens = [START, SAID, *[FILLER] * fillers, RELAY, ANSWER]
    x = torch.eye(WIDTH)[tokens]
    x[1, CONTENT] = said
    place = torch.arange(len(tokens))
    groups = {"text": place[1:2], "audio": place[2:-2], "question": place[-2:-1], "answer": place[-1:]}
    return x, groups


@torch.no_grad()
def recoveries(toy, joint, reference):
    (x, here), (y, there) = joint, reference
    layers = layers_of(toy)
    before = toy(x[None]).item()
    with reading(layers) as found:
        wanted = toy(y[None]).item()

    def forward(patches, start):
        with writing(layers, patches):
            return toy(x.expand(len(patches), -1, -1)).tolist()

    taken = {key: value[0] for key, value in found.items()}
    patched = sweep(forward, pairings(here, there), taken, before, rows=4)
    return {
        (component, group, layer): recovery(value, before, wanted)
        for component in COMPONENTS
        for group, values in patched[component].items()
        for layer, value in enumerate(values)
    }


CIRCUIT = {
    ("residual", "question", 0), ("residual", "answer", 1),
    ("attention", "question", 0), ("attention", "answer", 1), ("mlp", "answer", 1),
}  # fmt: skip


@pytest.mark.parametrize("fillers", [1, 4])
def test_patching_finds_the_planted_circuit_and_nothing_else(fillers):
    """Trap: places paired by index would put a filler's activations where the relay's belong."""
    found = recoveries(planted(), branch(-1.0), branch(1.0, fillers))
    for key, value in found.items():
        component, group, layer = key
        if group == "all":
            expected = (component, layer) != ("mlp", 0)
        else:
            expected = key in CIRCUIT
        assert value == pytest.approx(float(expected), abs=1e-6), key
    assert len(found) == 3 * 5 * 2


def test_without_a_circuit_patching_finds_nothing():
    """What the last token says by itself is found there alone, and in no attention and no MLP."""
    toy = Toy()
    joint, reference = branch(0.0), branch(0.0)
    joint[0][-1, OUT], reference[0][-1, OUT] = -1.0, 1.0
    for (component, group, layer), value in recoveries(toy, joint, reference).items():
        expected = component == "residual" and group in ("answer", "all")
        assert value == pytest.approx(float(expected), abs=1e-6), (component, group, layer)


def test_a_cut_circuit_has_nothing_to_recover():
    toy = planted()
    with torch.no_grad():
        toy.blocks[1].mixer.o.weight.zero_()
    assert set(recoveries(toy, branch(-1.0), branch(1.0)).values()) == {None}


def test_a_patch_reaches_its_own_row_alone():
    """Trap: rows of a batch are different patches of one item; a hook that ignores the row mixes them."""
    found = recoveries(planted(), branch(-1.0), branch(1.0))
    assert found["attention", "audio", 0] == pytest.approx(0.0)
    assert found["attention", "question", 0] == pytest.approx(1.0)


def test_layers_that_are_built_otherwise_are_refused():
    toy = planted()
    toy.blocks[1].second = Attention()
    with pytest.raises(ValueError, match="2 attentions and 1 other"):
        layers_of(toy)
    with pytest.raises(ValueError, match="0 lists of layers"):
        layers_of(nn.Linear(2, 2))
