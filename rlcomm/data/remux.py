"""A clip with another sound: the picture is copied packet by packet, the sound encoded beside it."""

import errno
import os
from fractions import Fraction

import av
import numpy as np

from rlcomm.data.media import MediaError
from rlcomm.data.probe import probe
from rlcomm.data.write_media import encode_audio
from rlcomm.utils import files

_COPIED = ("h264", "hevc", "mpeg4", "av1", "vp9")  # codecs an .mp4 can hold; others are encoded anew
_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS)


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
    found = probe(source)
    if not found.has_video or found.seconds == 0.0:
        raise MediaError(f"{source}: has no moving picture; give a video.")
    with files.replacing(out) as temporary:
        try:
            with (
                av.open(os.fspath(source)) as reader,
                av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as writer,
            ):
                picture = reader.streams.video[0]
                copied = picture.codec_context.name in _COPIED or picture.codec.canonical_name in _COPIED
                video = writer.add_stream_from_template(picture) if copied else _encoder(writer, picture)
                sound = None
                if audio is not None:
                    sound = writer.add_stream("aac", rate=rate, options={"b": "128k", "aac_coder": "fast"})
                    sound.layout = "mono"
                start = picture.start_time or 0
                for packet in reader.demux(picture):
                    if not copied:
                        for frame in packet.decode():
                            frame.pts = None if frame.pts is None else frame.pts - start
                            frame.pict_type = av.video.frame.PictureType.NONE
                            writer.mux(video.encode(frame))
                    elif packet.dts is not None:
                        packet.stream = video
                        packet.pts = None if packet.pts is None else packet.pts - start
                        packet.dts -= start
                        writer.mux(packet)
                if not copied:
                    writer.mux(video.encode(None))
                if sound is not None and audio is not None:
                    for packet in encode_audio(sound, audio, rate):
                        writer.mux(packet)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise  # said by files.replacing
            raise MediaError(
                f"{source}: its picture cannot be copied ({error.strerror}); convert the clip to an H.264 "
                ".mp4."
            ) from error


def _encoder(writer: av.container.OutputContainer, picture: av.VideoStream) -> av.VideoStream:
    rate = picture.average_rate or Fraction(25)
    video = writer.add_stream(
        "libx264", rate=rate, options={"preset": "veryfast", "crf": "18", "threads": "1"}
    )
    video.width, video.height = (
        side - side % 2 for side in (picture.codec_context.width, picture.codec_context.height)
    )
    video.pix_fmt = "yuv420p"
    if picture.time_base is not None:
        video.codec_context.time_base = picture.time_base
    return video
