"""Every preset of every host; pedalboard, ffmpeg with guitarix, sox and lv2apply for real."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pair_audio import RATE, ZOO, guitar, needs_recordings, recording

from fxfast.audio.files import write_audio
from fxfast.cli import main
from fxfast.errors import BuildError, InputError, PairError
from fxfast.pairs.command_host import CommandHost
from fxfast.pairs.hosts import render_with_preroll
from fxfast.pairs.manifest import read_manifest
from fxfast.pairs.pair_set import load_pairs
from fxfast.pairs.plugin_host import PluginHost
from fxfast.pairs.preset_files import load_presets, preset_host


@functools.cache
def has_guitarix() -> bool:
    """Whether ffmpeg has the lv2 filter and the plug-ins are there; asked by running one."""
    if shutil.which("ffmpeg") is None:
        return False
    wanted = [load_presets("ffmpeg").presets[name] for name in ("ts-1", "gate-1")]
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "anullsrc=r=48000:cl=mono:d=0.1"]
    return all(
        subprocess.run([*command, "-af", text, "-f", "null", "-"], capture_output=True).returncode
        == 0
        for text in wanted
    )


def needs_guitarix() -> None:
    if not has_guitarix():
        pytest.skip("ffmpeg with its lv2 filter, guitarix-lv2 and abgate are not installed")


def needs_pedalboard() -> None:
    pytest.importorskip("pedalboard", reason="pedalboard is not installed")


@pytest.fixture
def dry_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "dry"
    folder.mkdir()
    for number, name in enumerate(("one", "two")):
        write_audio(folder / f"{name}.wav", guitar(2.0, number), RATE)
    return folder


def test_a_missing_pedalboard_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    with pytest.raises(BuildError, match=r"pip install 'fxfast\[plugins\]'") as raised:
        PluginHost([("Chorus", {})])
    assert "\n" not in str(raised.value)


def test_pedalboard_is_imported_in_one_module_only() -> None:
    root = Path(__file__).resolve().parent.parent / "fxfast"
    loads = ("import pedalboard", "from pedalboard", 'import_module("pedalboard")')
    found = {
        path.name for path in root.rglob("*.py") if any(text in path.read_text() for text in loads)
    }
    assert found == {"plugin_host.py"}
    project = (root.parent / "pyproject.toml").read_text()
    assert "pedalboard" not in project.split("[project.optional-dependencies]")[0]


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([("Wobbler", {})], "expected an effect of pedalboard or a VST3 file, got 'Wobbler'"),
        ([("Chorus", {"speed": 1})], "plug-in Chorus: expected its parameters, got speed"),
        ([("missing.vst3", {})], "expected a VST3 file, found none at 'missing.vst3'"),
        ([], "plug-ins: expected at least one"),
    ],
)
def test_wrong_plugins_are_refused(
    chain: list[tuple[str, dict[str, float]]], expected: str
) -> None:
    needs_pedalboard()
    with pytest.raises(InputError) as raised:
        PluginHost(chain)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_plugin_is_refused(tmp_path: Path) -> None:
    needs_pedalboard()
    path = tmp_path / "broken.vst3"
    path.write_bytes(b"no plug-in")
    with pytest.raises(InputError, match="cannot be loaded"):
        PluginHost([(str(path), {})])


@pytest.mark.parametrize("host", ["builtin", "pedalboard", "ffmpeg"])
@pytest.mark.parametrize("preset", ZOO)
def test_every_preset_of_every_host(host: str, preset: str) -> None:
    if host == "pedalboard":
        needs_pedalboard()
    if host == "ffmpeg":
        needs_guitarix()
    x = (0.8 / np.max(np.abs(guitar(2.0, 1)))).astype(np.float32) * guitar(2.0, 1)
    chosen = preset_host(host, preset)
    wet = render_with_preroll(chosen, x, RATE)
    assert wet.shape == x.shape
    assert np.isfinite(wet).all()
    assert float(np.sqrt(np.mean(wet**2))) > 1e-3
    assert np.abs(wet).max() < 4.0
    if preset not in ("gate-1", "comp-1"):  # they leave this sound as it is
        assert np.mean((wet - x) ** 2) > 1e-6 * np.mean(x**2)
    assert chosen.about.preset == preset


def test_a_plugin_by_name(tmp_path: Path, dry_dir: Path) -> None:
    needs_pedalboard()
    out = tmp_path / "out"
    words = ["pairs", "make", str(dry_dir), "--effect", "pedalboard:Gain", "-o", str(out)]
    assert main([*words, "--set", "gain_db=-6", "--no-cache"]) == 0
    pair = load_pairs(out)[0]
    np.testing.assert_allclose(pair.wet, 10 ** (-6 / 20) * pair.dry, rtol=1e-5)
    record = read_manifest(out)[0]
    assert record.host == "pedalboard"
    assert record.host_version
    assert record.deterministic is True


@needs_recordings
@pytest.mark.parametrize("preset", ["gate-3", "ts-2", "fuzz-1", "comp-2", "reverb-1", "delay-6"])
def test_ffmpeg_renders_the_zoo_again(preset: str) -> None:
    needs_guitarix()
    dry, wet = recording("zoo/dry.flac"), recording(f"zoo/{preset}.flac")
    again = render_with_preroll(preset_host("ffmpeg", preset), dry[: 4 * RATE], RATE)
    np.testing.assert_allclose(again, wet[: 4 * RATE], atol=1.01 / 65536)


def test_a_missing_lv2_plugin_is_one_line() -> None:
    needs_guitarix()
    host = CommandHost(load_presets("ffmpeg").command, preset="lv2=p=http\\\\://example.org/none")
    with pytest.raises(PairError, match="command ffmpeg: expected exit code 0") as raised:
        render_with_preroll(host, guitar(0.2), RATE)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
def test_sox() -> None:
    command = "sox {in} -e floating-point -b 32 {out} gain {gain}"
    wet = render_with_preroll(CommandHost(command, parameters={"gain": -6}), guitar(0.5), RATE)
    np.testing.assert_allclose(wet, 10 ** (-6 / 20) * guitar(0.5), atol=1e-4)


@pytest.mark.skipif(shutil.which("lv2apply") is None, reason="lv2apply is not installed")
def test_lv2apply_and_ffmpeg_agree() -> None:
    needs_guitarix()
    plugin = "http://guitarix.sourceforge.net/plugins/gx_fuzzface_#_fuzzface_"
    command = f"lv2apply -i {{in}} -o {{out}} -c FUZZ 0.7 -c LEVEL 0.5 '{plugin}'"
    x = guitar(1.0)
    wet = render_with_preroll(CommandHost(command), x, RATE)
    other = render_with_preroll(preset_host("ffmpeg", "fuzz-2"), x, RATE)
    np.testing.assert_allclose(wet, other, atol=1e-5)


def test_a_vst3_file_is_loaded_with_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pedalboard's loader is replaced: no free VST3 file is at hand to render with."""
    needs_pedalboard()
    import pedalboard

    class Plugin(pedalboard.Gain):  # type: ignore[misc]
        parameters = {"gain_db": 0.0}  # noqa: RUF012

    path = tmp_path / "gain.vst3"
    path.mkdir()
    monkeypatch.setattr(pedalboard, "load_plugin", lambda found: Plugin())
    x = guitar(0.5)
    wet = render_with_preroll(PluginHost([(str(path), {"gain_db": 6.0})]), x, RATE)
    np.testing.assert_allclose(wet, 10 ** (6 / 20) * x, rtol=1e-5)
    with pytest.raises(InputError, match=r"expected parameters of gain_db, got 'volume'"):
        PluginHost([(str(path), {"volume": 6.0})])
