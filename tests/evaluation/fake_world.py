"""A hand-made world of four clips in the official formats, and policies that are plain functions.

c1  seen: flute, harp    heard: harp (flute muted)      c3  seen: cello   heard: rain (replaced)
c2  seen: drum, violin   heard: violin (drum muted)     c4  seen: harp    heard: harp
"""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rlcomm.data.media import Clip
from rlcomm.data.write_media import write_clip
from rlcomm.evaluation import runner

TRUTH = {
    "c1": {"visible": ["flute", "harp"], "audible": ["harp"], "ambient": None, "muted": "flute"},
    "c2": {"visible": ["drum", "violin"], "audible": ["violin"], "ambient": None, "muted": "drum"},
    "c3": {"visible": ["cello"], "audible": [], "ambient": "rain", "muted": None},
    "c4": {"visible": ["harp"], "audible": ["harp"], "ambient": None, "muted": None},
}


def build(folder: Path) -> Path:
    """Writes the files; the clips are stand-ins that nothing opens."""

    def item(video: str, name: str, answer: str) -> dict:
        return {
            "video_id": video,
            "question": f"Is there a {name} sound?",
            "answer": answer,
            "instruments": ", ".join(TRUTH[video]["visible"]),
            "instruments_len": "two",
        }

    def avqa(video: str, number: int, kind: list, question: str, values: list, answer: str) -> dict:
        return {
            "video_id": video,
            "question_id": number,
            "type": json.dumps(kind),
            "question_content": question,
            "templ_values": json.dumps(values),
            "question_deleted": 0,
            "anser": answer,
        }

    contents = {
        "avconfuse/muted.json": [item("c1", "flute", "no"), item("c2", "drum", "no")],
        "avconfuse/control.json": [item("c1", "harp", "yes"), item("c2", "violin", "yes")],
        "avconfuse/modified.json": [
            {
                "video_id": "c3",
                "filename": "c3.mp4",
                "question": "Describe what you see and what you hear.",
                "sound_type": "rain",
                "annotation": "Based on the video, a cello. Based on the audio, there is rain.",
            }
        ],
        "music_avqa/test.json": [
            avqa("c4", 1, ["Audio", "Existential"], "Is there a <Object> sound?", ["harp"], "yes"),
            avqa(
                "c4",
                2,
                ["Audio-Visual", "Counting"],
                "How many instruments are sounding in the video?",
                [],
                "one",
            ),
            avqa("c4", 3, ["Visual", "Location"], "What kind of musical instrument is it?", [], "harp"),
        ],
    }
    for name, rows in contents.items():
        path = folder / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    (folder / "clips").mkdir()
    for video in TRUTH:
        (folder / "clips" / f"{video}.mp4").write_bytes(b"clip")
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    return folder


class FakeModel:
    """`say(sample, clip, style) -> text`; `like(sample, clip) -> [score of yes, score of no]`."""

    def __init__(self, say: Callable, like: Callable | None = None):
        self.say, self.like = say, like or (lambda sample, clip: [-1.0, -1.0])
        self.training, self.loads, self.batches = True, [], []

    def eval(self):
        self.training = False

    def train(self, mode=True):
        self.training = mode


def build_real(folder: Path, fps: float) -> Path:
    """The same with clips of four frames that can be opened, and two rows of MCR-BENCH."""
    folder = build(folder)
    rng = np.random.default_rng(0)
    for name in TRUTH:
        frames = rng.integers(0, 255, (4, 56, 56, 3)).astype(np.uint8)
        hum = np.sin(np.arange(int(4 / fps * 16_000)) * rng.uniform(0.05, 0.5)).astype(np.float32) * 0.5
        write_clip(str(folder / "clips" / f"{name}.mp4"), frames, fps, hum)
    rows = [
        {
            "audio": f"{name}.mp4",
            "gt": gold,
            "neutral": "Which one plays: harp or violin?",
            "faithful": f"A {gold} plays.",
            "adversarial": f"A {other} plays.",
            "irrelevant": "It is late.",
            "options": ["harp", "violin"],
            "adversarial_answer": other,
        }
        for name, gold, other in (("c1", "harp", "violin"), ("c2", "violin", "harp"))
    ]
    (folder / "test" / "mcr").mkdir()
    (folder / "test" / "mcr" / "AQA.json").write_text(json.dumps(rows))
    return folder


def policy(monkeypatch, say: Callable, like: Callable | None = None):
    """A policy whose prompts are (sample, clip, style) and whose clips are two grey frames and a hum."""
    model = FakeModel(say, like)

    def generate(model, processor, prompts, num_generations=1, max_new_tokens=64, temperature=0.0):
        assert temperature == 0.0
        assert not model.training
        model.batches.append(len(prompts))
        return [[model.say(*prompt)] for prompt in prompts]

    def candidate_scores(model, processor, prompts, candidates, normalise=True):
        assert all(style == "direct" for _, _, style in prompts)
        assert candidates == [["yes", "no"]] * len(prompts)
        return [model.like(sample, clip) for sample, clip, _ in prompts]

    def load_clip(video, audio, settings, cache_dir=None):
        model.loads.append(audio)
        return Clip(np.zeros((2, 4, 4, 3), np.uint8), 2.0, np.zeros(16, np.float32))

    for name, function in (
        ("encode", lambda policy, sample, clip, prompt_style: (sample, clip, prompt_style)),
        ("generate", generate),
        ("candidate_scores", candidate_scores),
    ):
        module = {"encode": "encode", "generate": "rollout", "candidate_scores": "score"}[name]
        fake = types.ModuleType(module)
        setattr(fake, name, function)
        monkeypatch.setitem(sys.modules, f"rlcomm.omni.{module}", fake)
    monkeypatch.setattr(runner, "load_clip", load_clip)
    return types.SimpleNamespace(model=model, processor=None, path="fake")


def truth_of(sample) -> dict:
    return TRUTH[sample.meta.get("video_id") or Path(sample.audio).stem]
