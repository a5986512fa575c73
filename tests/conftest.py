"""Small models and clips shared by the tests; nothing here reads the network."""

import copy
import gc
import os
from pathlib import Path

import numpy as np
import pytest

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.data.write_media import write_clip
from rlcomm.omni.encode import INSTRUCTIONS, EncodedPrompt, encode
from rlcomm.omni.policy import Policy, load_policy
from rlcomm.orchestra import nano


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_no_garbage():
    """A million objects of torch and transformers, which a collection (one a training) would walk through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer():
    texts = [
        "Is there a violin sound?\nyes", "I hear a drum and a flute.", "I see a harp.\nno",
        "<a-think> I hear a drum. </a-think> <v-think> I see a drum. </v-think> <answer> yes </answer>",
        *INSTRUCTIONS.values(),
    ]  # fmt: skip
    return nano.train_tokenizer(texts * 3, 500)


@pytest.fixture(scope="session")
def nano_folder(tokenizer, tmp_path_factory) -> Path:
    """A random miniature thinker with its processor, saved."""
    folder = tmp_path_factory.mktemp("nano_omni")
    nano.nano_omni(tokenizer, seed=1).save_pretrained(folder)
    nano.omni_processor(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(nano_folder) -> Policy:
    """The miniature as it was read, for `fresh` to copy: that takes a sixth of the time of reading."""
    policy = load_policy(str(nano_folder))
    del policy.model.forward  # TRL's fused head, which would go on to compute with this very model
    return policy


def fresh(loaded: Policy) -> Policy:
    """A policy of its own, for a test that may change it."""
    return Policy(*copy.deepcopy((loaded.model, loaded.processor)), loaded.path)


@pytest.fixture
def policy(loaded) -> Policy:
    return fresh(loaded)


def make_clip(seed: int, seconds: float = 1.0, silent: bool = False) -> Clip:
    """Random frames (2 a second, 56x84) and noise; every seed another clip of the same shape."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (max(2, int(2 * seconds)), 56, 84, 3), dtype=np.uint8)
    audio = (rng.standard_normal(int(16_000 * seconds)) * 0.2).astype(np.float32)
    return Clip(frames=frames, fps=2.0, audio=audio * (not silent))


def make_sample(
    name: str = "a", question: str = "Is there a violin sound?", answer: str = "yes", **kwargs
) -> Sample:
    return Sample(id=name, turns=(Turn(question, answer),), video="x.mp4", audio="x.mp4", **kwargs)


def make_prompt(
    policy: Policy, seed: int, seconds: float = 1.0, style: str = "direct", **kwargs
) -> EncodedPrompt:
    return encode(policy, make_sample(**kwargs), make_clip(seed, seconds), style)


@pytest.fixture(scope="session")
def clip_rows(tmp_path_factory) -> list[Sample]:
    """Six real .mp4 files with a question, a warm-up target and a reference each."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for i in range(6):
        clip = make_clip(i)
        assert clip.frames is not None
        path = str(folder / f"{i}.mp4")
        write_clip(path, clip.frames, 2.0, clip.audio)
        target = f"<a-think> I hear {i}. </a-think> <v-think> I see {i}. </v-think> <answer> yes </answer>"
        rows.append(
            Sample(
                id=str(i),
                turns=(Turn("Is there a violin sound?", "yes" if i % 2 else "no", target=target),),
                video=path,
                audio=path,
                reference="I hear a drum.",
            )
        )
    return rows
