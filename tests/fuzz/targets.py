"""What is fuzzed. A target takes bytes and raises for a finding: any error that is not ours,
and sound that differs from what libsndfile reads.
"""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from fxfast.audio.containers import read_header
from fxfast.audio.files import AudioInfo, open_audio, probe
from fxfast.audio.metadata import Metadata, read_metadata
from fxfast.errors import FxfastError, ModelError
from fxfast.exchange import load
from fxfast.graph import ModelGraph
from fxfast.pairs.manifest import MANIFEST_NAME, read_manifest
from fxfast.rendering.journal import JOURNAL_NAME, Entries, decode_line, read_journal

# In memory where that is possible: the disk would be the slowest part.
_MEMORY = Path("/dev/shm")
_PLACE = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
FOLDER = _PLACE / f"fxfast-fuzz-{os.getpid()}"
# As many frames are compared; a file may promise more than anybody wants to read.
MAX_FRAMES = 1 << 16
_LINEAR = ("WAV", "WAVEX", "RF64", "W64", "AIFF")
_SOUND_CHUNKS = (b"fmt ", b"fact", b"data", b"ds64")
_INTEGERS = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")


def _file(name: str, data: bytes) -> Path:
    if not FOLDER.exists():
        FOLDER.mkdir()
        atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    path = FOLDER / name
    path.write_bytes(data)
    return path


def audio(data: bytes) -> None:
    """Headers, metadata and the sound of plain numbers, strict and lenient."""
    path = _file("a.wav", data)
    for lenient in (True, False):
        try:
            info = probe(path, lenient=lenient, max_channels=1 << 16)
            if info.format not in _LINEAR or info.subtype not in (*_INTEGERS, "FLOAT", "DOUBLE"):
                continue
            with open_audio(path, lenient=lenient, nonfinite="zero", block_frames=1000) as reader:
                block_ct = reader.read(MAX_FRAMES // info.channels + 1)
        except FxfastError as error:
            _check_message(error)
            continue
        wanted = min(info.frames, MAX_FRAMES // info.channels + 1)
        assert block_ct.shape == (info.channels, wanted), (block_ct.shape, info)
        assert np.isfinite(block_ct).all()
        if not lenient:
            _compare(path, info, block_ct)
    _check_metadata(path)


def _check_metadata(path: Path) -> None:
    try:
        metadata = read_metadata(path)
    except FxfastError as error:
        _check_message(error)
        return
    # Rates that a file states, and one that it does not.
    for found in (metadata, metadata.for_rate(44_100) if metadata.sample_rate else Metadata(0)):
        found.wave_chunks()
        found.flac_blocks()


def _sound_alone(path: Path, info: AudioInfo) -> bytes:
    """The file with the same layout, its metadata of RIFF renamed: libsndfile reads some lists of
    text for ever. Of W64 it takes the last of several sounds, we the first: what follows is cut."""
    data = bytearray(path.read_bytes())
    if info.format == "AIFF":
        return bytes(data)
    with path.open("rb") as file:
        header = read_header(file.fileno(), path.name, len(data))
    if info.format == "W64":
        frame_bytes = header.coding.sample_bytes * info.channels
        return bytes(data[: header.data_offset + info.frames * frame_bytes])
    for chunk in header.chunks:
        if chunk.name not in _SOUND_CHUNKS:
            data[chunk.body_offset - 8 : chunk.body_offset - 4] = b"junk"
    return bytes(data)


def _compare(path: Path, info: AudioInfo, block_ct: np.ndarray) -> None:
    """What we accept, libsndfile reads alike, or it knows less of the format."""
    if "streamed" in info.flags or info.frames == 0:
        return  # libsndfile has no frames of such files
    try:
        with soundfile.SoundFile(io.BytesIO(_sound_alone(path, info))) as file:
            x_tc = file.read(block_ct.shape[1], dtype="float32", always_2d=True)
            found = (file.samplerate, file.channels, file.frames)
    except (soundfile.SoundFileError, RuntimeError):
        return
    # A rate of AIFF may have a fraction: libsndfile cuts it off, we round.
    assert abs(found[0] - info.sample_rate) <= (info.format == "AIFF"), (found, info)
    assert found[1] == info.channels, (found, info)
    # Of these libsndfile takes what follows the sound, to the end of the file or chunk, for sound;
    # of RF64 what ds64 says, where EBU Tech 3306 has it only for a size of 0xffffffff.
    may_be_more = info.format in ("W64", "AIFF", "RF64")
    assert found[2] == info.frames or (may_be_more and found[2] > info.frames), (found, info)
    x_tc = np.where(np.isfinite(x_tc), x_tc, np.float32(0.0))
    assert np.array_equal(x_tc.T, block_ct), info


def _check_message(error: FxfastError) -> None:
    text = str(error)
    assert "\n" not in text, text
    assert len(text) < 1000, text
    assert error.code.startswith("E_")


def _model(name: str, data: bytes) -> None:
    try:
        assert isinstance(load(_file(name, data)), ModelGraph)
    except ModelError as error:
        _check_message(error)


def nam(data: bytes) -> None:
    """``.nam`` files."""
    _model("a.nam", data)


def native(data: bytes) -> None:
    """The native model files: safetensors with a graph in their header."""
    _model("a.safetensors", data)


def journal(data: bytes) -> None:
    """The journal of a render run: every byte is read, nothing raises, and the engine's reader
    believes what its plain twin does."""
    path = _file(JOURNAL_NAME, data)
    found: list[Entries] = []
    bad_lines = read_journal(FOLDER, found.append)
    path.unlink()
    assert sum(map(len, found)) + bad_lines <= data.count(b"\n") + 1
    plain = Entries()
    for line in data.split(b"\n")[:-1]:
        plain.add(line + b"\n")
        decode_line(line + b"\n")
    torn = data.rpartition(b"\n")[2]
    if torn:
        plain.add(torn)
    assert bad_lines == plain.bad_lines
    for column in ("out_key", "work_key", "run_key", "size", "mtime_ns"):
        engine = [number for entries in found for number in getattr(entries, column)]
        assert engine == list(getattr(plain, column))


def manifest(data: bytes) -> None:
    """The list of a folder of pairs."""
    _file(MANIFEST_NAME, data)
    try:
        for record in read_manifest(FOLDER):
            assert ".." not in record.dry.split("/")
    except FxfastError as error:
        _check_message(error)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (audio, nam, native, journal, manifest)
}
