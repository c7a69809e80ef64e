"""Files: strict reading, complete writing."""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fxfast.audio.files import (
    BlockWriter,
    find_audio,
    printable,
    probe,
    read_audio,
    read_blocks,
    write_audio,
)
from fxfast.errors import (
    AudioFileError,
    EmptyFileError,
    FxfastError,
    InputError,
    NonfiniteError,
    OutputExistsError,
)

RATE = 48000


FORMATS = {".wav": "WAV", ".aif": "AIFF", ".aiff": "AIFF", ".ogg": "OGG"}


def noise(channels: int, frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.9, 0.9, (channels, frames)).astype(np.float32)


def write_blocks(path: Path, blocks: list[np.ndarray]) -> None:
    with BlockWriter(path, RATE, 1) as writer:
        for block in blocks:
            writer.write(block)


def message(raised: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    assert isinstance(raised.value, FxfastError)
    return text


@pytest.mark.parametrize("frames", [1, 7, 65535, 65536, 65537, 150001])
@pytest.mark.parametrize(
    ("suffix", "subtype", "step"),
    [
        (".wav", "FLOAT", 0.0),
        (".wav", "PCM_24", 2.0**-23),
        (".wav", "PCM_16", 2.0**-15),
        (".flac", "PCM_24", 2.0**-23),
        (".flac", "PCM_16", 2.0**-15),
    ],
)
def test_what_is_written_is_read(
    tmp_path: Path, frames: int, suffix: str, subtype: str, step: float
) -> None:
    x_ct = noise(2, frames)
    path = tmp_path / f"a{suffix}"
    assert write_audio(path, x_ct, 44100, subtype) == 0
    info = probe(path)
    assert (info.sample_rate, info.channels, info.frames) == (44100, 2, frames)
    assert info.subtype == subtype
    y_ct, rate = read_audio(path)
    assert rate == 44100
    assert y_ct.dtype == np.float32
    assert y_ct.shape == x_ct.shape
    assert np.max(np.abs(y_ct - x_ct)) <= step / 2
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_integer_samples_survive_exactly(
    tmp_path: Path, suffix: str, subtype: str, bits: int
) -> None:
    half = 1 << (bits - 1)
    codes = np.random.default_rng(0).integers(-half, half, 1 << 17)
    codes[:4] = (-half, half - 1, 0, -1)
    x = (codes / half).astype(np.float32)
    write_audio(tmp_path / f"a{suffix}", x, RATE, subtype)
    assert np.array_equal(read_audio(tmp_path / f"a{suffix}")[0][0], x)


@pytest.mark.parametrize("block_frames", [1, 64, 999, 1000, 1001])
def test_blocks_join_to_the_file(tmp_path: Path, block_frames: int) -> None:
    x_ct = noise(3, 1000)
    write_audio(tmp_path / "a.wav", x_ct, RATE)
    blocks = list(read_blocks(tmp_path / "a.wav", block_frames))
    assert {block.shape[1] for block in blocks[:-1]} <= {block_frames}
    assert np.array_equal(np.concatenate(blocks, axis=1), x_ct)


@pytest.mark.parametrize("suffix", [".ogg", ".aiff", ".aif"])
def test_other_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(2, 5000).T, RATE, format=FORMATS[suffix])
    assert read_audio(path)[0].shape == (2, 5000)


def test_wave_extensible_and_odd_chunks_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2, 500).T, RATE, "PCM_24", format="WAVEX")
    assert probe(tmp_path / "a.wav").frames == 500
    plain = wav_bytes(np.arange(10, dtype="<i2").tobytes())
    odd = plain[:12] + b"LIST" + struct.pack("<I", 5) + b"abcde\0" + plain[12:]
    (tmp_path / "b.wav").write_bytes(odd)
    assert read_audio(tmp_path / "b.wav")[0].shape == (1, 10)


# --- what cannot be read ---------------------------------------------------------------------


def wav_bytes(data: bytes, data_size: int | None = None, magic: bytes = b"RIFF") -> bytes:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    size = len(data) if data_size is None else data_size
    body = b"WAVE" + fmt + b"data" + struct.pack("<I", size) + data
    return magic + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def refusal(path: Path) -> str:
    with pytest.raises(AudioFileError) as from_probe:
        probe(path)
    with pytest.raises(AudioFileError):
        read_audio(path)
    with pytest.raises(AudioFileError):
        list(read_blocks(path))
    text = message(from_probe)
    assert printable(path) in text
    return text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"RIFF", "expected an audio file"),
        (b"this is a letter, not a sound" * 99, "expected an audio file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(999), "expected an audio file"),
        (wav_bytes(bytes(2000), 4000), "promises 2000 frames, 1000 are there"),
        (wav_bytes(bytes(2000), 0xFFFFFFFF), "promises 2147483647 frames, 1000 are there"),
        (wav_bytes(bytes(2001)), "not a whole number of frames"),
        (wav_bytes(bytes(2000))[:36], "expected a data chunk"),
        (wav_bytes(bytes(20))[:12] + b"data" + struct.pack("<I", 4) + bytes(4), "fmt chunk before"),
        (b"RIFF\x10\0\0\0WAVE" + b"junk\0\0\0\0" * 9999, "at most 4096 chunks"),
    ],
)
def test_a_damaged_wav_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert expected in refusal(tmp_path / "a.wav")


def test_rf64_that_claims_the_sky_is_refused(tmp_path: Path) -> None:
    plain = wav_bytes(bytes(2000), 0xFFFFFFFF, b"RF64")
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 1 << 62, 1 << 62, 1 << 61, 0)
    (tmp_path / "a.wav").write_bytes(plain[:12] + sizes + plain[12:])
    assert f"promises {1 << 61} frames" in refusal(tmp_path / "a.wav")


def test_a_wrapped_riff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(bytes(2000), 2000))
    os.truncate(path, (5 << 30))  # sparse
    assert "expected RF64" in refusal(path)


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".ogg"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(1, 48000).T, RATE)
    os.truncate(path, int(os.path.getsize(path) * kept))
    refusal(path)


def test_a_cut_or_flipped_flac_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, noise(1, 48000), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioFileError, match="frames"):
        read_audio(path)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0x10
    path.write_bytes(flipped)
    with pytest.raises(AudioFileError):
        read_audio(path)


def test_a_flac_that_claims_2_36_frames_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, noise(1, 4096), RATE)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the high bits of the 36-bit length in STREAMINFO
    path.write_bytes(content)
    with pytest.raises(AudioFileError):
        read_audio(path)


def test_a_flac_without_a_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, noise(1, 4096), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert "states the length" in refusal(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    assert "got a folder" in refusal(tmp_path / "folder.wav")
    assert "got a pipe or a device" in refusal(tmp_path / "pipe.wav")
    assert "got a pipe or a device" in refusal(Path("/dev/zero"))
    assert "No such file" in refusal(tmp_path / "missing.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_input_is_refused_by_frame(tmp_path: Path, value: float) -> None:
    x_ct = noise(2, 70000)
    x_ct[1, 69000] = value
    soundfile.write(tmp_path / "a.wav", x_ct.T, RATE, "FLOAT")
    with pytest.raises(AudioFileError, match="NaN or infinity at frame 69000"):
        read_audio(tmp_path / "a.wav")
    y_ct, _ = read_audio(tmp_path / "a.wav", allow_nonfinite=True)
    assert np.array_equal(y_ct, x_ct, equal_nan=True)


def test_a_file_that_changes_while_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, noise(1, 48000), RATE)
    blocks = read_blocks(path, 1000)
    next(blocks)
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(AudioFileError, match=r"expected 48000 frames|cannot be decoded|changed"):
        list(blocks)


def test_strange_names_are_read_and_printed_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\nb\xff.wav")
    write_audio(path, noise(1, 10), RATE)
    assert probe(path).frames == 10
    path.write_bytes(b"")
    text = refusal(path)
    text.encode("utf-8")


def test_block_size_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="block_frames: expected at least 1, got 0"):
        list(read_blocks(tmp_path / "a.wav", 0))


# --- writing ---------------------------------------------------------------------------------


def test_any_cut_of_the_input_gives_the_same_bytes(tmp_path: Path) -> None:
    x_ct = noise(2, 200_000)
    for name, block in (("a", 200_000), ("b", 4097), ("c", 65536)):
        for suffix in (".wav", ".flac"):
            with BlockWriter(tmp_path / f"{name}{suffix}", RATE, 2) as writer:
                for start in range(0, 200_000, block):
                    writer.write(x_ct[:, start : start + block])
            assert writer.frames == 200_000
    for suffix in (".wav", ".flac"):
        contents = {(tmp_path / f"{name}{suffix}").read_bytes() for name in "abc"}
        assert len(contents) == 1


def test_nothing_is_visible_before_the_end_or_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"

    def interrupted() -> None:
        with BlockWriter(path, RATE, 1) as writer:
            writer.write(noise(1, 1000))
            assert not path.exists()
            assert all(name.startswith(".fxfast-") for name in os.listdir(tmp_path))
            raise KeyError("stop")

    with pytest.raises(KeyError):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, noise(1, 10), RATE)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError) as raised:
        write_audio(path, noise(1, 20), RATE)
    assert printable(path) in message(raised)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]
    write_audio(path, noise(1, 20), RATE, overwrite=True)
    assert probe(path).frames == 20


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_never_written(tmp_path: Path, suffix: str, value: float) -> None:
    x_ct = noise(1, 100)
    x_ct[0, 42] = value
    with pytest.raises(NonfiniteError, match="NaN or infinity at frame 142"):
        write_blocks(tmp_path / f"a{suffix}", [noise(1, 100), x_ct])
    assert os.listdir(tmp_path) == []


def test_clipping_is_counted_for_integers_only(tmp_path: Path) -> None:
    x = np.array([0.5, 1.5, -2.0, 1.0, -1.0], np.float32)
    assert write_audio(tmp_path / "a.wav", x, RATE, "PCM_16") == 2
    y = read_audio(tmp_path / "a.wav")[0][0]
    assert write_audio(tmp_path / "c.wav", np.full(9, -1e-6, np.float32), RATE, "PCM_16") == 0
    assert not read_audio(tmp_path / "c.wav")[0].any()
    np.testing.assert_allclose(y, [0.5, 1.0, -1.0, 1.0, -1.0], atol=2.0**-15)
    assert write_audio(tmp_path / "b.wav", x, RATE, "FLOAT") == 0
    assert np.array_equal(read_audio(tmp_path / "b.wav")[0][0], x)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.zeros((2, 10), np.float32), r"expected shape \(1, T\).*got \(2, 10\)"),
        (np.zeros((1, 1, 10), np.float32), r"got \(1, 1, 10\)"),
        (np.zeros(10, np.int16), "expected a float32 or float64 array, got int16"),
        ([0.0, 1.0], "got list"),
    ],
)
def test_a_wrong_block_is_refused(tmp_path: Path, x: np.ndarray, expected: str) -> None:
    with (
        pytest.raises(InputError, match=expected),
        BlockWriter(tmp_path / "a.wav", RATE, 1) as writer,
    ):
        writer.write(x)
    assert os.listdir(tmp_path) == []


def test_wrong_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="WAV or FLAC"):
        BlockWriter(tmp_path / "a.ogg", RATE, 1)
    with pytest.raises(InputError, match="FLAC subtype of PCM_16, PCM_24, got FLOAT"):
        BlockWriter(tmp_path / "a.flac", RATE, 1, "FLAC", "FLOAT")
    with pytest.raises(AudioFileError, match="9 channels"):
        write_audio(tmp_path / "a.flac", noise(9, 10), RATE)
    with pytest.raises(AudioFileError, match="No such file"):
        write_audio(tmp_path / "none" / "a.wav", noise(1, 10), RATE)
    assert os.listdir(tmp_path) == []


def test_more_than_a_wav_can_hold_becomes_rf64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x_ct = noise(1, 1001)
    monkeypatch.setattr("fxfast.audio.wave_sink.RIFF_LIMIT_BYTES", 3000)
    write_audio(tmp_path / "a.wav", x_ct, RATE)
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    info = probe(tmp_path / "a.wav")
    assert (info.format, info.frames, info.flags) == ("RF64", 1001, ())
    assert np.array_equal(read_audio(tmp_path / "a.wav")[0], x_ct)
    y_tc, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert np.array_equal(y_tc, x_ct[0])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_no_frames_are_a_file_but_no_sound(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_audio(path, noise(2, 0), RATE)
    info = probe(path)
    assert (info.frames, info.channels, info.sample_rate) == (0, 2, RATE)
    assert list(read_blocks(path)) == []
    if suffix == ".wav":  # libsndfile takes a FLAC file of 0 frames for one of unknown length
        assert soundfile.info(path).frames == 0
    with pytest.raises(EmptyFileError, match="at least 1 frame"):
        read_audio(path)


def test_a_promised_length_is_held(tmp_path: Path) -> None:
    with (
        pytest.raises(AudioFileError, match="expected 1001 frames to write, got 1000"),
        BlockWriter(tmp_path / "a.wav", RATE, 1, expected_frames=1001) as writer,
    ):
        writer.write(noise(1, 1000))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("limit_bytes", [10, 30_000, 299_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str, limit_bytes: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(AudioFileError) as raised:
            write_audio(tmp_path / f"a{suffix}", noise(1, 120_000), RATE, "PCM_24")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message(raised)
    assert os.listdir(tmp_path) == []


def test_find_audio_is_sorted_recursive_and_sees_no_hidden_names(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.flac", "x/c.ogg", "x/y/d.aif", "e.txt", ".hidden.wav", ".h/f.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)]
    assert found == ["a.flac", "b.WAV", "x/c.ogg", "x/y/d.aif"]
    assert find_audio(tmp_path / "e.txt") == [tmp_path / "e.txt"]
    with pytest.raises(AudioFileError, match="found nothing"):
        find_audio(tmp_path / "missing")
