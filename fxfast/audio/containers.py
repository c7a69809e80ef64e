"""Which kind of audio file it is, by its first bytes, and its header."""

from __future__ import annotations

from fxfast.audio import coded_headers, frame_headers, ogg_pages, wave_header
from fxfast.audio.headers import ByteWindow, Header
from fxfast.errors import FormatError


def read_header(fd: int, name: str, size: int) -> Header:
    """The header of an open file of ``size`` bytes, by its content and not by its suffix.

    ``fd``'s position does not move; ``name`` is the file's printable name. Raises FormatError for
    what is no audio file or damaged beyond use, TruncatedError where no sound is left,
    ChannelsError, RateError and ReadError.
    """
    window = ByteWindow(fd, name, size)
    magic = window.at(0, 16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        return wave_header.read_wave(window)
    if magic == wave_header.W64_RIFF:
        return wave_header.read_w64(window)
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return frame_headers.read_aiff(window)
    if magic[:4] == b"caff":
        return frame_headers.read_caf(window)
    if magic[:4] == b"OggS":
        return ogg_pages.read_ogg(window)
    start = coded_headers.after_id3(window)
    magic = window.at(start, 4)
    if magic == b"fLaC":
        return coded_headers.read_flac(window, start)
    if coded_headers.is_mp3(window, start):
        return coded_headers.read_mp3(window, start)
    raise FormatError(f"{name}: expected an audio file, got something else")
