"""Clips made of the recorded instruments and drawings of Debian's `gcompris-qt-data`."""

import io
import itertools
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from rlcomm.data.confuse import confuse
from rlcomm.data.decode import decode_audio
from rlcomm.data.sample import Sample, Turn, write_jsonl
from rlcomm.data.write_media import write_audio, write_clip

# recognisable both by ear and by eye
INSTRUMENTS = (
    "accordion",
    "banjo",
    "harmonica",
    "harp",
    "piano",
    "saxophone",
    "snare_drum",
    "trumpet",
    "violin",
)
SECONDS, FPS, SIDE = 3.0, 4, 112
RATE = 44_100  # as recorded


@dataclass
class RealClips:
    """Clips of recorded instruments, laid out as a data folder.

    Attributes:
        folder: the data folder; `rlcomm eval` can read `confused`.
        clips: {clip id: .mp4}: one or two instruments side by side, 3 s, 44.1 kHz, 112 x 112 or 112 x 224
            pixels; the id names them, e.g. "harp+piano".
        visible: {clip id: its instruments}.
        stems: {clip id: {instrument: .wav}} of the clips with two.
        rows: JSON Lines of samples: for every clip "Is there a ... sound?" of one that sounds and one that
            does not, then for every muted clip the muted one (gold "no") and the one that sounds on ("yes");
            `meta` holds visible, audible and muted.
        confused: what `rlcomm data confuse --mode muted` wrote from the stems.
    """

    folder: Path
    clips: dict[str, Path]
    visible: dict[str, tuple[str, ...]]
    stems: dict[str, dict[str, Path]]
    rows: Path
    confused: Path


def read_rcc(path: Path) -> dict[str, bytes]:
    """Files of a Qt resource bundle by path (raw or zlib entries).

    Layout, all big-endian: "qres", version, offsets of tree, data and names; a tree node is name offset,
    flags, then (folder) child count and first child or (file) locale and data offset, and from version 2 on a
    time stamp.
    """
    blob = path.read_bytes()
    magic, version, tree, data, names = struct.unpack_from(">4s4I", blob)
    if magic != b"qres":
        raise ValueError(f"{path} is no Qt resource bundle")
    node_size = 14 if version < 2 else 22
    found: dict[str, bytes] = {}

    def name(offset: int) -> str:
        length = struct.unpack_from(">H", blob, names + offset)[0]
        start = names + offset + 6  # behind the length and a hash
        return blob[start : start + 2 * length].decode("utf-16-be")

    def walk(index: int, prefix: str) -> None:
        at = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", blob, at)
        place = f"{prefix}/{name(name_offset)}" if index else ""
        if flags & 2:
            count, first = struct.unpack_from(">2I", blob, at + 6)
            for child in range(first, first + count):
                walk(child, place)
            return
        start = data + struct.unpack_from(">I", blob, at + 10)[0]
        content = blob[start + 4 : start + 4 + struct.unpack_from(">I", blob, start)[0]]
        if flags & 4:
            raise ValueError(f"{place}: zstd entries are not read")
        found[place] = zlib.decompress(content[4:]) if flags & 1 else content

    walk(0, "")
    return found


def drawing(svg: bytes) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8 picture on white."""
    png = resvg_py.svg_to_bytes(svg_string=svg.decode(), width=SIDE, height=SIDE, background="white")
    image = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.array(square)


def build(bundle: Path, folder: Path) -> RealClips:
    """Builds the clips of `RealClips` below `folder` from `instruments.rcc`; the same bytes every time."""
    files = {Path(name).name: content for name, content in read_rcc(bundle).items() if "/resource/" in name}
    pictures, sounds = {}, {}
    for name in INSTRUMENTS:
        pictures[name] = drawing(files[f"{name}.svg"])
        recording = folder / "recordings" / f"{name}.ogg"
        recording.parent.mkdir(parents=True, exist_ok=True)
        recording.write_bytes(files[f"{name}.ogg"])
        sounds[name] = _excerpt(decode_audio(recording, RATE))

    found = RealClips(folder, {}, {}, {}, folder / "rows.jsonl", folder / "confused")
    pairs = [pair for index, pair in enumerate(itertools.combinations(INSTRUMENTS, 2)) if index % 6 == 0]
    for names in [*((name,) for name in INSTRUMENTS[:4]), *pairs]:
        clip_id = "+".join(names)
        found.visible[clip_id] = names
        found.clips[clip_id] = folder / "clips" / f"{clip_id}.mp4"
        total = np.sum([sounds[name] for name in names], axis=0)
        write_clip(found.clips[clip_id], _swaying([pictures[name] for name in names]), FPS, total, RATE)
        if len(names) == 2:
            found.stems[clip_id] = {name: folder / "stems" / clip_id / f"{name}.wav" for name in names}
            for name, place in found.stems[clip_id].items():
                write_audio(place, sounds[name], RATE)
    confuse(
        [found.clips[clip_id] for clip_id in found.stems],
        found.confused,
        "muted",
        stems=folder / "stems",
        progress=False,
    )
    write_jsonl(found.rows, _rows(found))
    return found


def _rows(found: RealClips) -> list[Sample]:
    samples = []
    for index, (clip_id, names) in enumerate(found.visible.items()):
        absent = [name for name in INSTRUMENTS if name not in names]
        for asked, answer in ((names[index % len(names)], "yes"), (absent[index % len(absent)], "no")):
            samples.append(
                _sample(
                    found.clips[clip_id],
                    asked,
                    answer,
                    {"visible": list(names), "audible": list(names), "muted": None},
                )
            )
    for clip_id, truth in json.loads((found.confused / "truth.json").read_text()).items():
        for asked, answer in ((truth["muted"], "no"), (truth["audible"][0], "yes")):
            samples.append(_sample(found.confused / "clips" / f"{clip_id}.mp4", asked, answer, truth))
    return samples


def _sample(clip: Path, asked: str, answer: str, truth: dict) -> Sample:
    turn = Turn(f"Is there a {asked.replace('_', ' ')} sound?", answer, type="Audio-Visual/Existential")
    return Sample(f"{clip.stem}-{asked}", (turn,), str(clip), str(clip), meta=truth)


def _excerpt(audio: np.ndarray) -> np.ndarray:
    """SECONDS from where the recording sets in, at RMS 0.08."""
    onset = int(np.argmax(np.abs(audio) > 0.1 * np.abs(audio).max()))
    part = audio[onset : onset + round(SECONDS * RATE)]
    part = np.pad(part, (0, round(SECONDS * RATE) - len(part)))
    part = part * 0.08 / np.sqrt(np.mean(part**2))
    return (part / max(1.0, 2 * np.abs(part).max())).astype(np.float32)


def _swaying(pictures: list[np.ndarray]) -> np.ndarray:
    """(F, SIDE, SIDE * n, 3): the drawings side by side, moving a little, so that the frames differ."""
    frames = [
        np.concatenate([np.roll(picture, 2 * (frame % 2), axis=0) for picture in pictures], axis=1)
        for frame in range(round(SECONDS * FPS))
    ]
    return np.stack(frames)
