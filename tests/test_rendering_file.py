"""One file through a player: same length, rate and channels, no delay, nothing half-written."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_player import MODEL_RATE, FakePlayer, FakeStream, one_layer_graph

from fxfast.audio.files import probe, read_audio
from fxfast.errors import (
    AudioFileError,
    FxfastError,
    InputError,
    OutputExistsError,
    RateError,
    RunError,
)
from fxfast.rendering import Processing, render_file
from fxfast.rendering.output_format import output_subtype, output_suffix


def noise(channels: int, frames: int, seed: int = 0, peak: float = 0.4) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.uniform(-peak, peak, (channels, frames)).astype(np.float32)


def write(
    path: Path, x_ct: np.ndarray, rate: int = MODEL_RATE, subtype: str | None = "FLOAT"
) -> Path:
    soundfile.write(path, x_ct.T, rate, subtype, format="AIFF" if path.suffix == ".aif" else None)
    return path


def tone(frames: int, rate: int, hz: float = 997.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(frames) / rate)).astype(np.float32)[np.newaxis]


# --- what comes out ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_name", "in_subtype", "out_name", "out_subtype"),
    [
        ("a.wav", "PCM_U8", "o.wav", "PCM_16"),
        ("a.wav", "PCM_16", "o.wav", "PCM_16"),
        ("a.wav", "PCM_24", "o.wav", "PCM_24"),
        ("a.wav", "PCM_32", "o.wav", "PCM_24"),
        ("a.wav", "FLOAT", "o.wav", "FLOAT"),
        ("a.wav", "DOUBLE", "o.wav", "FLOAT"),
        ("a.wav", "FLOAT", "o.flac", "PCM_24"),
        ("a.flac", "PCM_16", "o.flac", "PCM_16"),
        ("a.flac", "PCM_24", "o.wav", "PCM_24"),
        ("a.aiff", "PCM_16", "o.wav", "PCM_16"),
        ("a.aif", "FLOAT", "o.wav", "FLOAT"),
        ("a.ogg", "VORBIS", "o.flac", "PCM_24"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_keeps_length_rate_channels_and_sample_format(
    tmp_path: Path, in_name: str, in_subtype: str, out_name: str, out_subtype: str, channels: int
) -> None:
    source = write(tmp_path / in_name, noise(channels, 5001), subtype=in_subtype)
    x_ct, _ = read_audio(source)
    player = FakePlayer(0.5, 0.25)
    done = render_file(player, source, tmp_path / out_name)
    info = probe(tmp_path / out_name)
    assert (info.frames, info.sample_rate, info.channels) == (5001, MODEL_RATE, channels)
    assert (info.subtype, done.subtype) == (out_subtype, out_subtype)
    assert (done.frames, done.channels, done.clipped) == (5001, channels, 0)
    assert done.seconds == pytest.approx(5001 / MODEL_RATE)
    y_ct, _ = read_audio(tmp_path / out_name)
    step = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 0.0}[out_subtype]
    assert np.abs(y_ct - player.render(x_ct)).max() <= step


@pytest.mark.parametrize("grid", [1, 64, 100])
@pytest.mark.parametrize("frames", [1, 2, 63, 64, 65, 1000])
def test_identity_returns_every_sample(tmp_path: Path, frames: int, grid: int) -> None:
    x_ct = np.round(noise(1, frames) * 32768) / np.float32(32768)
    source = write(tmp_path / "a.wav", x_ct, subtype="PCM_16")
    player = FakePlayer(grid_samples=grid)
    render_file(player, source, tmp_path / "o.wav", block_frames=64)
    assert read_audio(tmp_path / "o.wav")[0].tobytes() == x_ct.tobytes()


@pytest.mark.parametrize("grid", [1, 96])
@pytest.mark.parametrize("rate", [MODEL_RATE, 44_100])
def test_any_block_size_writes_the_same_bytes(tmp_path: Path, rate: int, grid: int) -> None:
    source = write(tmp_path / "a.wav", noise(2, 9000), rate)
    outputs = []
    for block_frames in (1 << 14, 7, 64, 1000, 8999, 1 << 30):
        out = tmp_path / f"{block_frames}.wav"
        player = FakePlayer(0.5, 0.25, grid_samples=grid)
        render_file(
            player, source, out, processing=Processing(resample=True), block_frames=block_frames
        )
        outputs.append(out.read_bytes())
    assert len(set(outputs)) == 1


def test_asked_sample_format_wins(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", noise(1, 100))
    for subtype in ("pcm_16", "pcm_24", "float"):
        out = tmp_path / f"{subtype}.wav"
        render_file(FakePlayer(), source, out, format="wav", subtype=subtype)
        assert probe(out).subtype == subtype.upper()


def test_clipped_samples_are_counted_in_integer_formats_only(tmp_path: Path) -> None:
    x_ct = np.array([[0.1, 0.6, -0.7, 0.49, 0.2]], np.float32)
    source = write(tmp_path / "a.wav", x_ct)
    player = FakePlayer(2.0)
    assert render_file(player, source, tmp_path / "i.wav", subtype="pcm_16").clipped == 2
    assert np.abs(read_audio(tmp_path / "i.wav")[0]).max() <= 1.0
    assert render_file(player, source, tmp_path / "f.wav").clipped == 0
    assert read_audio(tmp_path / "f.wav")[0].max() == np.float32(1.2)


def test_output_names_and_sample_formats() -> None:
    names = [".WAV", ".wav", ".FLAC", ".ogg", ".AIF", ".aiff", ".mp3", ""]
    kept = [".WAV", ".wav", ".FLAC", ".flac", ".wav", ".wav", ".wav", ".wav"]
    assert [output_suffix(name, "keep") for name in names] == kept
    assert output_suffix(".WAV", "flac") == ".flac"
    assert output_suffix(".Flac", "flac") == ".Flac"
    assert output_subtype("FLOAT", ".FLAC", "keep") == "PCM_24"
    assert output_subtype("FLOAT", ".WAV", "keep") == "FLOAT"


# --- other rates -------------------------------------------------------------------


def test_another_rate_is_refused_with_both_rates(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", noise(1, 100), 44_100)
    with pytest.raises(
        RateError, match=r"a\.wav: expected the model's sample rate of 48000 Hz, got 44100 Hz"
    ):
        render_file(FakePlayer(), source, tmp_path / "o.wav")
    assert os.listdir(tmp_path) == ["a.wav"]


def test_rates_out_of_range_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", noise(1, 100), 2_000_000)
    with pytest.raises(RateError, match="expected at most 1000000 Hz to resample"):
        render_file(FakePlayer(), source, tmp_path / "o.wav", processing=Processing(resample=True))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 44_101, 96_000, 192_000])
@pytest.mark.parametrize("frames", [1, 100, 9001])
def test_resampling_keeps_length_and_adds_no_delay(tmp_path: Path, rate: int, frames: int) -> None:
    """An identity model gives back a tone; one sample of delay at 48 kHz would be 13 % off."""
    x_ct = np.concatenate([tone(frames, rate), -tone(frames, rate)])
    window = np.sin(np.pi * np.arange(frames) / frames) ** 2
    source = write(tmp_path / "a.wav", (x_ct * window).astype(np.float32), rate)
    render_file(FakePlayer(), source, tmp_path / "o.wav", processing=Processing(resample=True))
    y_ct, out_rate = read_audio(tmp_path / "o.wav")
    assert (y_ct.shape, out_rate) == ((2, frames), rate)
    if frames > 1000:
        assert np.abs(y_ct - x_ct * window).max() < 2e-5


def test_resampling_settles_on_silence_before_the_file(tmp_path: Path) -> None:
    """A model with an offset plays it from the first to the last sample, without an edge."""
    source = write(tmp_path / "a.wav", np.zeros((1, 3000), np.float32), 44_100)
    render_file(
        FakePlayer(offset=0.25), source, tmp_path / "o.wav", processing=Processing(resample=True)
    )
    y_ct, _ = read_audio(tmp_path / "o.wav")
    assert np.abs(y_ct - 0.25).max() < 1e-5


# --- errors ------------------------------------------------------------------------


def refused(kind: type[FxfastError], match: str, *args: object, **settings: object) -> None:
    """The call fails with this message and leaves the folder of the input as it was."""
    folder = Path(str(args[1])).parent
    before = sorted(os.listdir(folder))
    with pytest.raises(kind, match=match) as caught:
        render_file(*args, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(folder)) == before


def test_existing_output_needs_overwrite(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", noise(1, 100))
    out = tmp_path / "o.wav"
    out.write_bytes(b"mine")
    refused(OutputExistsError, r"o\.wav: expected no file there", FakePlayer(), source, out)
    assert out.read_bytes() == b"mine"
    render_file(FakePlayer(), source, out, overwrite=True)
    assert probe(out).frames == 100


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_output_must_not_be_the_input(tmp_path: Path, link: object) -> None:
    source = write(tmp_path / "a.wav", noise(1, 100))
    out = tmp_path / "o.wav" if link else source
    if callable(link):
        link(source, out)
    content = source.read_bytes()
    message = "expected an output that is not the input"
    refused(InputError, message, FakePlayer(), source, out, overwrite=True)
    assert source.read_bytes() == content


def test_wrong_arguments(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", noise(1, 100))
    wav, flac = tmp_path / "o.wav", tmp_path / "o.flac"
    player = FakePlayer()
    refused(InputError, r"ends in \.wav or \.flac, got '\.mp3'", player, source, tmp_path / "o.mp3")
    refused(InputError, r"ends in \.flac, got '\.wav'", player, source, wav, format="flac")
    refused(InputError, "format: expected one of keep, wav, flac", player, source, wav, format="x")
    refused(InputError, "subtype: expected one of keep", player, source, wav, subtype="x")
    refused(InputError, "subtype: .* for flac, got 'float'", player, source, flac, subtype="float")
    refused(InputError, "block_frames: expected", player, source, wav, block_frames=0)


def test_unreadable_inputs(tmp_path: Path) -> None:
    out = tmp_path / "o.wav"
    good = write(tmp_path / "good.wav", noise(1, 5000))
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:9000])
    flac = write(tmp_path / "a.flac", noise(1, 50_000), subtype="PCM_16")
    (tmp_path / "cut.flac").write_bytes(flac.read_bytes()[:40_000])
    x_ct = noise(1, 5000)
    x_ct[0, 4321] = np.nan
    write(tmp_path / "nan.wav", x_ct)
    os.mkfifo(tmp_path / "pipe.wav")
    for name, message in {
        "none.wav": "none.wav",
        "text.wav": "text.wav: expected an audio file",
        "empty.wav": "empty.wav: expected an audio file, got an empty file",
        "folder.wav": "folder.wav: expected an audio file, got a folder",
        "pipe.wav": "pipe.wav: expected an audio file, got a pipe",
        "cut.wav": "cut.wav: truncated",
        "cut.flac": "cut.flac: ",
        "nan.wav": "nan.wav: expected finite samples, got NaN or infinity at frame 4321",
    }.items():
        refused(AudioFileError, message, FakePlayer(), tmp_path / name, out, block_frames=1000)


def test_a_stopped_or_broken_render_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", noise(1, 5000))
    out = tmp_path / "o.wav"
    calls = iter([False, False, True])
    message = r"o\.wav: stopped before it was complete"
    refused(
        RunError,
        message,
        FakePlayer(),
        source,
        out,
        block_frames=1000,
        stopped=lambda: next(calls),
    )

    class Short(FakePlayer):
        def stream(self, channels: int = 1) -> FakeStream:
            stream = super().stream(channels)
            stream.process = lambda block: block[..., 1:]  # type: ignore[method-assign]
            return stream

    refused(AudioFileError, "expected 5000 frames, got 4999", Short(), source, out)


# --- memory ------------------------------------------------------------------------


def sparse_wav(path: Path, frames: int, channels: int = 1, rate: int = MODEL_RATE) -> Path:
    """Silence in 16 bit: a header, and a hole in the file."""
    write(path, np.zeros((channels, 1), np.float32), rate, "PCM_16")
    header = bytearray(path.read_bytes()[:44])
    data_bytes = frames * channels * 2
    header[4:8] = (36 + data_bytes).to_bytes(4, "little")
    header[40:44] = data_bytes.to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, 44 + data_bytes)
    return path


def peak_bytes(source: Path, out: Path, resample: bool) -> int:
    tracemalloc.start()
    try:
        render_file(FakePlayer(), source, out, processing=Processing(resample=resample))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("rate", "channels"), [(MODEL_RATE, 1), (MODEL_RATE, 64), (44_100, 2)])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, rate: int, channels: int) -> None:
    seconds = 64 // channels
    short = sparse_wav(tmp_path / "short.wav", seconds * rate, channels, rate)
    long = sparse_wav(tmp_path / "long.wav", 8 * seconds * rate, channels, rate)
    resample = rate != MODEL_RATE
    peak_bytes(short, tmp_path / "warm.wav", resample)
    one = peak_bytes(short, tmp_path / "a.wav", resample)
    eight = peak_bytes(long, tmp_path / "b.wav", resample)
    assert probe(tmp_path / "b.wav").frames == 8 * seconds * rate
    assert eight < one + 200_000
    assert eight < 16 << 20


# --- with the engine ----------------------------------------------------------------


def test_engine_renders_a_file_as_it_renders_the_array(tmp_path: Path) -> None:
    pytest.importorskip("fxfast._native", reason="the engine is not built")
    from fxfast.player import Player

    player = Player(one_layer_graph(0.5, -0.25, 1.0), threads=1, mode="stream")
    for channels in (1, 3):
        source = write(tmp_path / f"{channels}.wav", noise(channels, 5001))
        out = tmp_path / f"o{channels}.wav"
        render_file(player, source, out, block_frames=333)
        expected = player.render(read_audio(source)[0])
        assert read_audio(out)[0].tobytes() == expected.tobytes()
    assert not list(tmp_path.glob(".fxfast-*"))
