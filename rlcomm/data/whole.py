"""Whether a media file is all there, where its own container proves it; ffmpeg would decode what is left."""

import os
from typing import BinaryIO

from rlcomm.data.media import MediaError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_STREAMED = 0x7FFF0000
"""RIFF lengths from here on are placeholders of a writer that could not seek back (sox: 0x7ffff024)."""
_RIFF_SLACK = 8
"""Bytes that a RIFF header may promise too many: a missing pad byte, or the header itself counted in."""


def check_whole(path: str | os.PathLike, file: BinaryIO, size: int) -> None:
    """Compares a file's size with what its first bytes promise; knows .mp4, RIFF (wav, avi), Matroska (webm).

    Args:
        path: for the message.
        file: open, at its start.
        size: in bytes.

    Raises:
        MediaError: it is shorter than it says.
    """
    head = file.read(64)
    if head[:4] == b"RIFF":
        end = _riff(head)
    elif head[:4] == _EBML:
        end = _matroska(head, file)
    else:
        end = _boxes(head, file, size)
    if end > size:
        raise MediaError(f"{path}: is cut off ({size} of {end} bytes); copy or download it again.")


def _riff(head: bytes) -> int:
    length = int.from_bytes(head[4:8], "little")
    return 0 if length >= _STREAMED else 8 + length - _RIFF_SLACK


def _boxes(head: bytes, file: BinaryIO, size: int) -> int:
    """The end of the last box of an .mp4, whose first one is ftyp; 0 for any other file."""
    end = 0
    while head[4:8].isalnum() and end < size:
        if end == 0 and head[4:8] != b"ftyp":
            break
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        end += length or size - end  # 0: up to the end of the file
        file.seek(end)
        head = file.read(16)
    return end


def _matroska(head: bytes, file: BinaryIO) -> int:
    """The end of the segment; 0 where its length is not known (a live recording)."""
    header, length = _number(head[4:])
    place = 4 + header + (length or 0)
    file.seek(place)
    head = file.read(16)
    if head[:4] != _SEGMENT:
        return 0
    width, length = _number(head[4:])
    return 0 if length is None else place + 4 + width + length


def _number(data: bytes) -> tuple[int, int | None]:
    """(bytes, value) of an EBML length; None: unknown, all its bits are set."""
    if not data or data[0] == 0:
        return 1, None
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return width, None if value == (1 << 7 * width) - 1 else value
