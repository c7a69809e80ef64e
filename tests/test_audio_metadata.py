"""What files carry beside their sound goes from input to output."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_player import FakePlayer
from wave_bytes import RATE, chunk, codes, fmt, pack, riff

from fxfast.audio.containers import read_header
from fxfast.audio.files import BlockWriter, read_audio
from fxfast.audio.flac_metadata import parse_comments, vorbis_comment
from fxfast.audio.metadata import Metadata, read_metadata
from fxfast.rendering import render_file

FRAMES = 1000
SOUND = chunk(b"data", pack(codes(1, FRAMES), 16))
INFO = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"Riff\0") + chunk(b"IART", "Zoë\0".encode()))
CUE = chunk(b"cue ", struct.pack("<III4sIII", 1, 7, 480, b"data", 0, 0, 480))
LABELS = chunk(
    b"LIST",
    b"adtl"
    + chunk(b"labl", struct.pack("<I", 7) + b"verse\0")
    + chunk(b"ltxt", struct.pack("<II4sHHHH", 7, 240, b"rgn ", 0, 0, 0, 0)),
)
SMPL = chunk(b"smpl", struct.pack("<9I6I", 0, 0, 20833, 60, 0, 0, 0, 1, 0, 0, 0, 96, 959, 0, 0))


def bext(version: int = 2) -> bytes:
    body = bytearray(602)
    body[:5] = b"a take"[:5]
    struct.pack_into("<QH", body, 338, 48_000 * 3600, version)
    struct.pack_into("<5h", body, 412, -2300, 700, -100, -1800, -2000)
    return chunk(b"bext", bytes(body))


IXML = chunk(b"iXML", b"<BWFXML><SPEED><FILE_SAMPLE_RATE>48000</FILE_SAMPLE_RATE></SPEED></BWFXML>")
OTHER = chunk(b"xyzw", b"whatever")
EVERYTHING = riff(
    bext(), chunk(b"JUNK", bytes(28)), fmt(), INFO, SOUND, CUE, LABELS, SMPL, IXML, OTHER,
    chunk(b"PEAK", bytes(16)),
)  # fmt: skip


def chunks_of(path: Path) -> dict[bytes, bytes]:
    """The chunks of a file, LIST by its type; behind the sound those of the same name count."""
    content = path.read_bytes()
    with path.open("rb") as file:
        header = read_header(file.fileno(), path.name, len(content))
    found = {}
    for c in header.chunks:
        body = content[c.body_offset : c.body_offset + c.size_bytes]
        found[body[:4] if c.name == b"LIST" else c.name] = body
    return found


def body(raw: bytes) -> bytes:
    return raw[8:]


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(EVERYTHING)
    return tmp_path / "a.wav"


def test_wave_chunks_are_copied(everything: Path, tmp_path: Path) -> None:
    render_file(FakePlayer(), everything, tmp_path / "o.wav")
    found = chunks_of(tmp_path / "o.wav")
    for name, raw in ((b"INFO", INFO), (b"cue ", CUE), (b"adtl", LABELS), (b"smpl", SMPL),
                      (b"iXML", IXML), (b"xyzw", OTHER)):  # fmt: skip
        assert found[name] == body(raw), name
    assert b"PEAK" not in found
    written = found[b"bext"]
    assert written[:412] == body(bext())[:412]
    # The sound is another: its loudness is not measured.
    assert struct.unpack_from("<5h", written, 412) == (0x7FFF,) * 5
    assert np.array_equal(read_audio(tmp_path / "o.wav")[0], read_audio(everything)[0])
    names = list(chunks_of(tmp_path / "o.wav"))
    assert names.index(b"bext") < names.index(b"data") < names.index(b"cue ")
    assert soundfile.info(tmp_path / "o.wav").frames == FRAMES


def test_an_older_bext_has_no_loudness_to_forget(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(riff(bext(1), fmt(), SOUND))
    render_file(FakePlayer(), tmp_path / "a.wav", tmp_path / "o.wav")
    assert chunks_of(tmp_path / "o.wav")[b"bext"] == body(bext(1))


def test_chunks_survive_a_flac_between(everything: Path, tmp_path: Path) -> None:
    render_file(FakePlayer(), everything, tmp_path / "b.flac")
    comments = dict(parse_comments(next(b for k, b in read_metadata(tmp_path / "b.flac").blocks
                                        if k == 4)))  # fmt: skip
    assert comments == {"TITLE": "Riff", "ARTIST": "Zoë"}
    with soundfile.SoundFile(tmp_path / "b.flac") as file:
        assert (file.title, file.artist, file.frames) == ("Riff", "Zoë", FRAMES)
    render_file(FakePlayer(), tmp_path / "b.flac", tmp_path / "c.wav")
    found = chunks_of(tmp_path / "c.wav")
    for name, raw in ((b"INFO", INFO), (b"cue ", CUE), (b"adtl", LABELS), (b"smpl", SMPL),
                      (b"iXML", IXML), (b"xyzw", OTHER)):  # fmt: skip
        assert found[name] == body(raw), name


def test_positions_stay_at_the_same_rate_and_scale_at_another(everything: Path) -> None:
    metadata = read_metadata(everything)
    assert metadata.for_rate(RATE) is metadata
    halved = dict(metadata.for_rate(24_000).after)
    assert struct.unpack_from("<II", halved[b"cue "], 4) == (7, 240)
    assert struct.unpack_from("<I", halved[b"cue "], 24) == (240,)
    period, start, end = (struct.unpack_from("<I", halved[b"smpl"], at)[0] for at in (8, 44, 48))
    # 864 frames from 96 become 432 frames from 48: a loop ends with its last frame.
    assert (period, start, end) == (41_667, 48, 479)
    assert b"<FILE_SAMPLE_RATE>24000<" in halved[b"iXML"]
    label = halved[b"LIST"]
    assert struct.unpack_from("<I", label, label.index(b"ltxt") + 12) == (120,)
    time = struct.unpack_from("<Q", dict(metadata.for_rate(24_000).before)[b"bext"], 338)
    assert time == (24_000 * 3600,)


def flac(path: Path, blocks: list[tuple[int, bytes]]) -> None:
    with BlockWriter(path, RATE, 1, metadata=Metadata(RATE, blocks=tuple(blocks))) as writer:
        writer.write(np.zeros(FRAMES, np.float32))


def picture(size: int) -> tuple[int, bytes]:
    mime = b"image/png"
    head = struct.pack(">II", 3, len(mime)) + mime + struct.pack(">IIIII", 0, 1, 1, 24, 0)
    return 6, head + struct.pack(">I", size) + b"\x89PNG" + bytes(size - 4)


@pytest.mark.parametrize("size", [10, 70_000, 3_000_000])
def test_flac_comments_and_pictures_are_copied(tmp_path: Path, size: int) -> None:
    comments = [("TITLE", "Solo"), ("artist", "Zoë"), ("MOOD", "blue"), ("MOOD", "green")]
    kept = [(4, vorbis_comment(comments, b"somebody")), picture(size), (2, b"ATCHdata")]
    flac(tmp_path / "a.flac", kept)
    assert list(read_metadata(tmp_path / "a.flac").blocks) == kept
    render_file(FakePlayer(), tmp_path / "a.flac", tmp_path / "o.flac")
    assert list(read_metadata(tmp_path / "o.flac").blocks) == kept
    assert soundfile.info(tmp_path / "o.flac").frames == FRAMES
    render_file(FakePlayer(), tmp_path / "a.flac", tmp_path / "o.wav")
    with soundfile.SoundFile(tmp_path / "o.wav") as file:
        assert (file.title, file.artist) == ("Solo", "Zoë")


def test_an_empty_flac_keeps_its_comments(tmp_path: Path) -> None:
    block = (4, vorbis_comment([("TITLE", "Nothing")]))
    with BlockWriter(tmp_path / "a.flac", RATE, 1, metadata=Metadata(RATE, blocks=(block,))):
        pass
    assert read_metadata(tmp_path / "a.flac").blocks == (block,)


def test_loop_comments_of_flac_are_scaled(tmp_path: Path) -> None:
    comments = [("LOOPSTART", "480"), ("LOOPLENGTH", "960"), ("TITLE", "480")]
    flac(tmp_path / "a.flac", [(4, vorbis_comment(comments))])
    (block,) = read_metadata(tmp_path / "a.flac").for_rate(44_100).blocks
    assert parse_comments(block[1]) == [
        ("LOOPSTART", "441"), ("LOOPLENGTH", "882"), ("TITLE", "480")
    ]  # fmt: skip


def aiff(*chunks: tuple[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(FRAMES), RATE, "PCM_16", format="AIFF")
    content = file.getvalue()
    for name, data in chunks:
        content += name + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"FORM" + struct.pack(">I", len(content) - 8) + content[8:]


def test_aiff_names_markers_and_loops_become_chunks(tmp_path: Path) -> None:
    marks = struct.pack(">H", 2)
    for number, position, name in ((1, 100, b"begin"), (2, 900, b"end!")):
        marks += struct.pack(">HIB", number, position, len(name)) + name
        marks += b"\0" * ((len(name) + 1) % 2)
    instrument = struct.pack(">BbBBBBhhHHhHH", 64, -10, 0, 127, 1, 127, 0, 1, 1, 2, 0, 0, 0)
    content = aiff(
        (b"NAME", b"A sound"), (b"AUTH", b"Somebody"), (b"MARK", marks), (b"INST", instrument)
    )
    (tmp_path / "a.aiff").write_bytes(content)
    render_file(FakePlayer(), tmp_path / "a.aiff", tmp_path / "o.wav")
    with soundfile.SoundFile(tmp_path / "o.wav") as file:
        assert (file.title, file.artist) == ("A sound", "Somebody")
    found = chunks_of(tmp_path / "o.wav")
    points = [struct.unpack_from("<II", found[b"cue "], 4 + 24 * n) for n in (0, 1)]
    assert points == [(1, 100), (2, 900)]
    assert b"labl" in found[b"adtl"]
    assert b"begin\0" in found[b"adtl"]
    note, fraction = struct.unpack_from("<II", found[b"smpl"], 12)
    # 10 cents below note 64 are 90 cents above note 63.
    assert (note, round(100 * fraction / 2**32)) == (63, 90)
    assert struct.unpack_from("<II", found[b"smpl"], 44) == (100, 899)


def test_ogg_comments_are_kept(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.ogg", "w", RATE, 1, "VORBIS", format="OGG") as file:
        file.title = "Take"
        file.write(np.zeros(FRAMES))
    render_file(FakePlayer(), tmp_path / "a.ogg", tmp_path / "o.flac")
    with soundfile.SoundFile(tmp_path / "o.flac") as file:
        assert file.title == "Take"


def test_the_mask_of_the_channels_is_kept(tmp_path: Path) -> None:
    data = chunk(b"data", pack(codes(4, 100), 16))
    (tmp_path / "a.wav").write_bytes(riff(fmt(4, extensible=(16, 0x33)), data))
    render_file(FakePlayer(), tmp_path / "a.wav", tmp_path / "o.wav")
    assert chunks_of(tmp_path / "o.wav")[b"fmt "][20:24] == struct.pack("<I", 0x33)


def test_metadata_too_large_for_one_block_is_left_out_of_flac(tmp_path: Path) -> None:
    big = Metadata(RATE, before=((b"note", b""), (b"bext", bytes((1 << 24) - 1))))
    assert [kind for kind, _ in big.flac_blocks()] == [2]
