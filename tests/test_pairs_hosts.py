"""Effects outside: commands, plug-ins, preset files, the cache, and all that goes wrong."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pair_audio import RATE, ZOO, guitar, needs_recordings, recording

from fxfast.audio.files import write_audio
from fxfast.cli import main
from fxfast.errors import BuildError, InputError, PairError
from fxfast.pairs.command_host import CommandHost, fill, split_template
from fxfast.pairs.effects import EFFECTS, PRESETS
from fxfast.pairs.hosts import built_in_preset, render_with_preroll
from fxfast.pairs.make_pairs import make_pairs
from fxfast.pairs.manifest import read_manifest
from fxfast.pairs.pair_set import load_pairs
from fxfast.pairs.plugin_host import PluginHost
from fxfast.pairs.preset_files import SHIPPED, load_presets, preset_host, preset_names
from fxfast.pairs.render_cache import RenderCache

PYTHON = f"{sys.executable} -c"
COPY = f"{PYTHON} 'import shutil, sys; shutil.copy(*sys.argv[1:3])' {{in}} {{out}}"


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


def script(tmp_path: Path, body: str) -> str:
    """A command that runs some Python with x, rate, sys.argv and the names of the files."""
    path = tmp_path / "effect.py"
    path.write_text(
        "import sys, time, os\nimport numpy as np, soundfile\n"
        "source, target = sys.argv[1:3]\nx, rate = soundfile.read(source, dtype='float32')\n"
        f"{body}\n"
    )
    return f"{sys.executable} {path} {{in}} {{out}}"


WRITE = "soundfile.write(target, x, rate, subtype='FLOAT')"


# --- templates -------------------------------------------------------------------------------


def test_a_template_is_cut_before_it_is_filled_in() -> None:
    arguments = split_template("prog 'a b' --x={in} {out} {preset}")
    values = {"in": "/tmp/a b;rm -rf $HOME", "out": "{in}", "preset": "x|y 'z' {sr}"}
    assert [fill(argument, values) for argument in arguments] == [
        "prog", "a b", "--x=/tmp/a b;rm -rf $HOME", "{in}", "x|y 'z' {sr}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", r"expected \{in\} in its arguments"),
        ("prog {in}", r"expected \{out\} in its arguments"),
        ("prog 'open {in} {out}", "expected closed quotes"),
        ("sh {in} {out} {gain}", r"expected a value for \{gain\}, got none"),
        ("no-such-program {in} {out}", "expected a program on the PATH, found none named"),
    ],
)
def test_wrong_templates_are_refused(template: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as raised:
        CommandHost(template)
    assert "\n" not in str(raised.value)


def test_no_shell_sees_the_command(tmp_path: Path) -> None:
    write = script(tmp_path, f"open({str(tmp_path / 'got')!r}, 'w').write(sys.argv[3])\n{WRITE}")
    host = CommandHost(f"{write} {{preset}}", preset=f"$(touch {tmp_path}/bad); `id` > x | y")
    render_with_preroll(host, guitar(0.2), RATE)
    assert (tmp_path / "got").read_text() == f"$(touch {tmp_path}/bad); `id` > x | y"
    assert sorted(os.listdir(tmp_path)) == ["effect.py", "got"]


def test_the_command_gets_the_pre_roll_and_the_rate(tmp_path: Path) -> None:
    body = f"assert rate == int(sys.argv[3]) and not x[: 2 * rate].any()\nx[0] = 1.0\n{WRITE}"
    x = guitar(0.2)
    wet = render_with_preroll(CommandHost(script(tmp_path, body) + " {sr}"), x, RATE)
    assert np.array_equal(wet, x)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("sys.exit('first\\nlast words')", "expected exit code 0, got exit code 1: last words"),
        ("os.abort()", "expected exit code 0, got signal SIGABRT"),
        ("pass", "expected it to write {out}, found no file"),
        ("open(target, 'w').close()", "{out}: expected an audio file, got an empty file"),
        (f"x = x[1:]\n{WRITE}", "expected 105600 samples back, got 105599"),
        (f"x = np.stack([x, x], 1)\n{WRITE}", "expected 1 channel (mono) back, got 2"),
        (f"rate = 44100\n{WRITE}", "expected 48000 Hz back, got 44100 Hz"),
        (f"x[5] = np.nan\n{WRITE}", "NaN or infinity at frame 5"),
        ("time.sleep(60)", "expected an end within 1.5 s"),
    ],
)
def test_a_command_that_goes_wrong_is_one_line(tmp_path: Path, body: str, expected: str) -> None:
    seconds = 1.5 if "sleep" in body else 60.0
    host = CommandHost(script(tmp_path, body), timeout_seconds=seconds)
    begun = time.monotonic()
    with pytest.raises(PairError) as raised:
        render_with_preroll(host, guitar(0.2), RATE)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - begun < 30.0


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(2.5); open({str(mark)!r}, 'w')"
    body = f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    with pytest.raises(PairError, match="expected an end within 1 s"):
        CommandHost(script(tmp_path, body), timeout_seconds=1.0).render(guitar(0.2), RATE)
    time.sleep(2.0)
    assert not mark.exists()


# --- making pairs with a command -------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others(
    tmp_path: Path, dry_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dry_dir / "zero.wav").write_bytes(b"")
    command = script(
        tmp_path, f"assert np.abs(x).max() != {np.abs(guitar(2.0, 1)).max()!r}\n{WRITE}"
    )
    words = ["pairs", "make", str(dry_dir), "--command", command, "-o", str(tmp_path / "out")]
    assert main([*words, "--no-cache", "--jobs", "2"]) == 1
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("fxfast: error: ") for line in lines)
    assert "zero.wav: expected an audio file, got an empty file" in shown.err
    assert "two.wav: command python" in shown.err
    assert [pair.name for pair in load_pairs(tmp_path / "out")] == ["one"]


def test_late_commands_are_put_right(tmp_path: Path, dry_dir: Path) -> None:
    command = script(tmp_path, f"x = np.concatenate([np.zeros(700, 'f'), x])[: len(x)]\n{WRITE}")
    made = make_pairs([dry_dir], tmp_path / "out", CommandHost(command))
    assert [record.offset_samples for record in made.records] == pytest.approx([700, 700], abs=0.1)
    for pair in load_pairs(tmp_path / "out"):
        assert np.array_equal(pair.dry, pair.wet)
    kept = make_pairs([dry_dir], tmp_path / "kept", CommandHost(command), keep_offset=True)
    assert kept.records[0].status == "warned"
    assert not np.array_equal(
        *(getattr(load_pairs(tmp_path / "kept")[0], s) for s in ("dry", "wet"))
    )


def test_results_are_kept_by_input_and_command(tmp_path: Path, dry_dir: Path) -> None:
    log = tmp_path / "log"
    command = script(tmp_path, f"open({str(log)!r}, 'a').write('x')\n{WRITE}")
    cache = RenderCache(tmp_path / "cache")

    def runs(host: CommandHost, out: str) -> int:
        log.write_text("")
        make_pairs([dry_dir], tmp_path / out, host, cache=cache)
        return len(log.read_text())

    assert runs(CommandHost(command), "first") == 3  # one of the two files twice
    assert runs(CommandHost(command), "again") == 0
    assert runs(CommandHost(f"{command} {{gain}}", parameters={"gain": 1.0}), "other") == 3
    write_audio(dry_dir / "three.wav", guitar(3.0, 5), RATE)
    assert runs(CommandHost(command), "more") == 1
    first, again = (load_pairs(tmp_path / name) for name in ("first", "again"))
    assert all(np.array_equal(a.wet, b.wet) for a, b in zip(first, again, strict=True))
    for path in (tmp_path / "cache").rglob("*.wav"):
        path.write_bytes(b"broken")
    assert runs(CommandHost(command), "mended") == 3


@pytest.mark.parametrize(("noise", "same"), [("0", True), ("np.random.rand(len(x))", False)])
def test_an_effect_that_plays_dice_is_found_out(
    tmp_path: Path, dry_dir: Path, noise: str, same: bool
) -> None:
    command = script(tmp_path, f"x = (x + 1e-3 * {noise}).astype('f')\n{WRITE}")
    made = make_pairs([dry_dir], tmp_path / "out", CommandHost(command))
    assert {record.deterministic for record in read_manifest(tmp_path / "out")} == {same}
    assert made.to_json()["deterministic"] is same


def test_jobs_change_nothing_but_the_time(tmp_path: Path, dry_dir: Path) -> None:
    for jobs in (1, 3):
        made = make_pairs([dry_dir], tmp_path / f"jobs-{jobs}", built_in_preset("ts-2"), jobs=jobs)
        assert len(made.records) == 2
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "jobs-1", tmp_path / "jobs-3")
    )
    assert first == second


def test_settings_reach_a_command(tmp_path: Path, dry_dir: Path) -> None:
    command = script(tmp_path, f"x = x * float(sys.argv[3])\n{WRITE}") + " {gain}"
    out = str(tmp_path / "out")
    words = ["pairs", "make", str(dry_dir / "one.wav"), "--command", command, "-o", out]
    assert main([*words, "--knob", "gain=0.5,0.25", "--no-cache"]) == 0
    pairs = load_pairs(out)
    assert [pair.name for pair in pairs] == ["gain=0.25/one", "gain=0.5/one"]
    for pair in pairs:
        np.testing.assert_allclose(pair.wet, pair.knobs["gain"] * pair.dry, atol=1e-7)


# --- preset files ----------------------------------------------------------------------------


def test_every_host_has_the_27_presets() -> None:
    for host in ("builtin", *SHIPPED):
        assert preset_names(host) == ZOO
    assert set(PRESETS) == set(ZOO)
    families = {PRESETS[name].effect for name in ZOO}
    assert families == set(EFFECTS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a file of format 'fxfast-presets'"),
        ('{"format": "fxfast-presets", "host": "shell"}', "host: expected command or pedalboard"),
        ('{"format": "fxfast-presets", "host": "command", "presets": {}}', "presets: expected"),
        (
            '{"format": "fxfast-presets", "host": "command", "command": "a {in} {out}", '
            '"presets": {"x": "y"}}',
            "command: expected a template with {preset}",
        ),
        (
            '{"format": "fxfast-presets", "host": "pedalboard", "presets": {"x": "y"}}',
            "preset 'x': expected a list of",
        ),
    ],
)
def test_wrong_preset_files_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "presets.json"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        load_presets(path)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_presets_of_ones_own(tmp_path: Path, dry_dir: Path) -> None:
    path = tmp_path / "presets.json"
    command = script(tmp_path, f"x = x * float(sys.argv[3])\n{WRITE}") + " {preset}"
    values = {"host": "command", "command": command, "presets": {"half": "0.5", "bad": "loud"}}
    path.write_text(json.dumps({"format": "fxfast-presets", "format_version": 1, **values}))
    words = ["pairs", "make", str(dry_dir), "--host", str(path), "--no-cache"]
    assert main([*words, "--preset", "all", "-o", str(tmp_path / "out")]) == 1
    assert os.listdir(tmp_path / "out") == ["half"]
    assert read_manifest(tmp_path / "out" / "half")[0].preset == "half"
    with pytest.raises(
        InputError, match=r"preset of presets\.json: expected one of half, bad, got"
    ):
        preset_host(str(path), "third")
    assert main([*words, "--preset", "third", "-o", str(tmp_path / "other")]) == 1


def test_all_built_in_presets_in_a_folder_each(tmp_path: Path, dry_dir: Path) -> None:
    out = tmp_path / "out"
    words = ["pairs", "make", str(dry_dir), "--preset", "gate-2,chorus-6", "-o", str(out)]
    assert main(words) == 0
    assert sorted(os.listdir(out)) == ["chorus-6", "gate-2"]
    (record, _) = read_manifest(out / "chorus-6")
    assert (record.effect, record.preset, record.host) == ("chorus", "chorus-6", "fxfast")
    assert record.parameters == PRESETS["chorus-6"].parameters


# --- real hosts ------------------------------------------------------------------------------


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
