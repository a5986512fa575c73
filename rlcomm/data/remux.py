"""A clip with another sound: the picture is copied packet by packet, the sound encoded beside it."""

import os
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from rlcomm.data.decode import decoded, pixels_of, upright
from rlcomm.data.media import MediaError
from rlcomm.data.probe import DISK_ERRORS, decodable, end_of, opened, picture_of, probe, start_of
from rlcomm.data.write_media import encode_audio
from rlcomm.utils import files

_COPIED = ("h264", "hevc", "mpeg4", "av1", "vp9")  # codecs an .mp4 can hold; others are encoded anew


def replace_audio(
    source: str | os.PathLike, out: str | os.PathLike, audio: np.ndarray | None, rate: int
) -> None:
    """Writes `source` with another sound; the picture is copied, not encoded again, where .mp4 allows.

    Args:
        source: a clip with a picture.
        out: the .mp4 to write.
        audio: (N,) float32 mono in [-1, 1], starting with the picture; None: without an audio track.
        rate: of the audio, Hz.

    Raises:
        MediaError: `source` is missing, damaged or has no moving picture.
        UserError: the disk is full or the folder cannot be written.
    """
    if not _moves(source):
        raise MediaError(f"{source}: has no moving picture; give a video.")
    with files.replacing(out) as temporary:
        try:
            with (
                opened(source) as reader,
                av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as writer,
            ):
                picture = picture_of(reader)
                assert picture is not None
                packets = _copied(reader, picture, writer, source) or _encoded(
                    reader, picture, writer, source
                )
                sound = None
                if audio is not None:
                    sound = writer.add_stream("aac", rate=rate, options={"b": "128k", "aac_coder": "fast"})
                    sound.layout = "mono"
                for packet in packets:
                    writer.mux(packet)
                if sound is not None and audio is not None:
                    for packet in encode_audio(sound, audio, rate):
                        writer.mux(packet)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise  # said by files.replacing
            raise MediaError(
                f"{source}: its picture cannot be copied ({error.strerror}); convert the clip to an H.264 "
                ".mp4."
            ) from error


def _moves(source: str | os.PathLike) -> bool:
    found = probe(source)
    return found.has_video and found.seconds > 0.0


def _copied(
    reader: av.container.InputContainer,
    picture: av.VideoStream,
    writer: av.container.OutputContainer,
    source: str | os.PathLike,
) -> Iterator[av.Packet] | None:
    """The packets of the picture as they are, on clip time; None where an .mp4 cannot hold them: another
    codec, or packets without the times that it needs."""
    decodable(picture, source)
    if not {picture.codec_context.name, picture.codec.canonical_name} & set(_COPIED):
        return None
    with opened(source) as other:
        if any(packet.dts is None for packet in _filled(other, other.streams[picture.index])):
            return None
    stream = writer.add_stream_from_template(picture, opaque=True)
    assert picture.time_base is not None
    zero = round(start_of(reader) / picture.time_base)

    def moved() -> Iterator[av.Packet]:
        for packet in _filled(reader, picture):
            packet.stream = stream
            packet.pts = None if packet.pts is None else packet.pts - zero
            assert packet.dts is not None  # as looked at above
            packet.dts -= zero
            yield packet

    return moved()


def _filled(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    return (packet for packet in container.demux(stream) if packet.size)  # the last one is a flush


def _encoded(
    reader: av.container.InputContainer,
    picture: av.VideoStream,
    writer: av.container.OutputContainer,
    source: str | os.PathLike,
) -> Iterator[av.Packet]:
    """The picture encoded anew: upright, of one size and one range of colours, its last frame held as long as
    the file says."""
    rate = picture.average_rate or Fraction(25)
    rate = rate if 1 <= rate <= 120 else Fraction(25)  # of a slide show, or a clock's
    stream = writer.add_stream(
        "libx264", rate=rate, options={"preset": "veryfast", "crf": "18", "threads": "1"}
    )
    stream.pix_fmt, clock = "yuv420p", Fraction(1, 90_000)
    stream.codec_context.time_base = clock
    zero, end = start_of(reader), end_of(reader, picture, source)

    def frames() -> Iterator[tuple[np.ndarray, float]]:
        size: tuple[int, int] | None = None
        pixels, time = None, 0.0
        for frame in decoded(reader, picture, source):
            size = size or upright(frame)
            pixels, time = pixels_of(frame, size), (frame.time or 0.0) - zero
            yield pixels, time
        if pixels is not None and end - time > 2 / rate:
            yield pixels, end - float(1 / rate)

    def packets() -> Iterator[av.Packet]:
        last = -1
        for pixels, time in frames():
            height, width = (side - side % 2 for side in pixels.shape[:2])
            if last < 0:
                stream.width, stream.height = width, height
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            frame.pts = last = max(last + 1, round(time / clock))
            frame.time_base = clock
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()
