"""What the clips sound and look like."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.orchestra import instruments, pictograms, render, sounds
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.scenes import Scene, draw
from rlcomm.orchestra.sounds import SOUNDS

SCENE = Scene(
    "s",
    ("violin", "cello", "drum"),
    ("cello", "drum", "violin"),
    None,
    None,
    {"cello": 0.02, "drum": 0.5, "violin": 0.08},
    {"cello": 0.0, "drum": -4.0, "violin": 2.5},
    11,
    False,
)
MUTED = replace(
    SCENE,
    audible=("cello", "drum"),
    muted="violin",
    onsets={"cello": 0.02, "drum": 0.5},
    loudness={"cello": 0.0, "drum": -4.0},
)


def test_a_muted_instrument_leaves_nothing_and_changes_nothing_else() -> None:
    alone = render.stems(SCENE)
    np.testing.assert_array_equal(render.sound(MUTED), alone["cello"] + alone["drum"])
    np.testing.assert_allclose(render.sound(SCENE) - render.sound(MUTED), alone["violin"], atol=1e-6)


def test_a_muted_violin_is_gone_from_the_clip_itself(tmp_path: Path) -> None:
    def high(scene: Scene) -> float:  # energy above 3 kHz, where the cello has none
        render.render(scene, tmp_path / "x.mp4")
        audio = load_clip(None, str(tmp_path / "x.mp4"), MediaSettings()).audio
        assert audio is not None
        return float((np.abs(np.fft.rfft(audio))[3000:] ** 2).sum())

    duo = replace(SCENE, places=("violin", "cello", ""), audible=("cello", "violin"))
    assert high(replace(duo, audible=("cello",), muted="violin")) < 1e-3 * high(duo)


def test_the_picture_does_not_tell_what_sounds() -> None:
    np.testing.assert_array_equal(render.frames(SCENE), render.frames(MUTED))
    np.testing.assert_array_equal(
        render.frames(SCENE),
        render.frames(replace(SCENE, audible=(), ambient="wind", onsets={}, loudness={})),
    )


def test_all_visible_instruments_move_between_the_two_frames_a_model_sees() -> None:
    first, second = render.frames(MUTED)[[0, 2]].astype(int)
    for place in range(3):
        column = slice(28 * place, 28 * (place + 1))
        assert (np.abs(first[:, column] - second[:, column]) > 40).any(-1).sum() > 20


def test_places_are_the_three_columns() -> None:
    alone = replace(SCENE, places=("", "cello", ""))
    pixels = render.frames(alone)[0].astype(int)
    ground = pixels[:, :4].mean((0, 1))
    far = (np.abs(pixels - ground) > 60).any(-1)
    assert far[:, 28:56].sum() > 300
    assert not far[:, :28].any()
    assert not far[:, 56:].any()


@pytest.mark.parametrize("kind", ["symmetric", "muted", "ambient"])
def test_levels_and_onsets_are_those_of_the_truth(kind: str) -> None:
    for seed in range(20):
        scene = draw("x", np.random.default_rng(seed), test=False, kind=kind)
        mix = render.sound(scene)
        assert np.abs(mix).max() <= 0.97 + 1e-6
        for name, wave in render.stems(scene).items():
            if name in SOUNDS:
                continue
            start = round(scene.onsets[name] * 16_000)
            assert not wave[:start].any()
            assert np.abs(wave[start : start + 1600]).max() > 0.01
            level = 20 * np.log10(np.sqrt(np.mean(wave[start:] ** 2)) / 0.07)
            assert level == pytest.approx(scene.loudness[name], abs=0.01)


def test_the_clip_gives_back_what_was_put_in(tmp_path: Path) -> None:
    path = tmp_path / "s.mp4"
    render.render(SCENE, path)
    clip = load_clip(str(path), str(path), MediaSettings())
    assert clip.frames is not None
    assert clip.audio is not None
    assert clip.frames.shape == (2, 56, 84, 3)
    assert clip.fps == 2
    shown, drawn = clip.frames.astype(int), render.frames(SCENE).astype(int)
    difference = np.abs(shown[:, None] - drawn[None]).mean((2, 3, 4))
    assert difference.argmin(1).tolist() == [0, 2]
    assert difference.min(1).max() < 6
    heard, meant = clip.audio[:16_000], render.sound(SCENE)
    assert abs(len(clip.audio) - 16_000) <= 1024
    assert np.corrcoef(heard[:15_000], meant[:15_000])[0, 1] > 0.95  # 0.7 when one sample late


# -------------------------------------------------------------------------------- training against test


def played_semitones(monkeypatch: pytest.MonkeyPatch, test: bool) -> dict[str, set[int]]:
    heard: dict[str, set[int]] = {name: set() for name in INSTRUMENTS}
    note = instruments.note

    def spy(name: str, semitone: float) -> float:
        heard[name].add(int(semitone) % 12)
        return note(name, semitone)

    with monkeypatch.context() as patch:
        patch.setattr(instruments, "note", spy)
        for seed in range(15):
            for name in INSTRUMENTS:
                instruments.play(name, seed, int(test), 16_000)
    return heard


def test_training_and_test_play_no_common_note(monkeypatch: pytest.MonkeyPatch) -> None:
    train = played_semitones(monkeypatch, test=False)
    test = played_semitones(monkeypatch, test=True)
    for name in INSTRUMENTS:
        assert min(len(train[name]), len(test[name])) >= 4, "pitch varies"
        assert not train[name] & test[name]


def test_training_and_test_show_no_common_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[bool, set[int]] = {False: set(), True: set()}
    sprite: Callable[[str, int, int], np.ndarray] = pictograms.sprite
    for test, variants in shown.items():

        def spy(name: str, variant: int, step: int, variants: set[int] = variants) -> np.ndarray:
            variants.add(variant)
            return sprite(name, variant, step)

        monkeypatch.setattr(pictograms, "sprite", spy)
        for seed in range(60):
            render.frames(draw("x", np.random.default_rng(seed), test=test))
    assert len(shown[True]) == 8
    assert len(shown[False]) == 16
    assert not shown[True] & shown[False]
    looks = [pictograms.sprite("harp", variant, 0).tobytes() for variant in range(pictograms.VARIANTS)]
    assert len(set(looks)) == pictograms.VARIANTS


# -------------------------------------------------------------------------------- can it be told apart


def features(wave: np.ndarray) -> np.ndarray:
    """Mean, spread and mean change of 32 log bands, evenly spaced in mel; (96,)."""
    edges = 700 * (10 ** (np.linspace(0, 2840, 34) / 2595) - 1)
    hertz = np.fft.rfftfreq(400, 1 / 16_000)
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    windows = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(windows)) ** 2
    bands = np.log10(power @ np.clip(np.minimum(rise, fall), 0, 1).T + 1e-4)
    return np.concatenate([bands.mean(0), bands.std(0), np.abs(np.diff(bands, axis=0)).mean(0)])


def test_timbres_are_distinct() -> None:
    def heard(name: str, seed: int, grid: int) -> np.ndarray:
        level = 0.07 * 10 ** (np.random.default_rng(seed).uniform(-4, 4) / 20)
        if name in SOUNDS:
            return features(level * sounds.play(name, seed, 16_000))
        return features(level * instruments.play(name, seed, grid, 16_000))

    names = INSTRUMENTS + SOUNDS
    train = np.array([[heard(name, seed, 0) for seed in range(12)] for name in names])
    spread = train.reshape(-1, train.shape[-1]).std(0) + 1e-6
    right = total = 0
    for index, name in enumerate(names):
        for seed in range(100, 110):  # test pitches
            distance = (((train.mean(1) - heard(name, seed, 1)) / spread) ** 2).sum(-1)
            right += int(distance.argmin() == index)
            total += 1
    assert right / total > 0.95


def test_pictograms_are_distinct_within_their_column() -> None:
    looks = np.array(
        [
            [pictograms.sprite(name, variant, 0) for variant in range(pictograms.VARIANTS)]
            for name in INSTRUMENTS
        ]
    )
    tiles = looks.reshape(8, pictograms.VARIANTS, 4, 14, 2, 14, 4).mean((3, 5))
    tiles = tiles.reshape(8, pictograms.VARIANTS, -1)
    tiles /= tiles.std((0, 1)) + 1e-6
    train, test = (tiles[:, list(pictograms.variants(side))] for side in (False, True))
    # (8 instruments, test variants, 8 instruments, training variants)
    distance = ((test[:, :, None, None] - train[None, None]) ** 2).sum(-1)
    assert (distance.min(-1).argmin(-1) == np.arange(8)[:, None]).mean() > 0.95
