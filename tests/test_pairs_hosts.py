"""Effects outside: commands, plug-ins, preset files, the cache, and all that goes wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pair_audio import RATE, ZOO, guitar

from fxfast.audio.files import write_audio
from fxfast.cli import main
from fxfast.errors import InputError, PairError
from fxfast.pairs.command_host import CommandHost, fill, split_template
from fxfast.pairs.effects import EFFECTS, PRESETS
from fxfast.pairs.hosts import built_in_preset, render_with_preroll
from fxfast.pairs.make_pairs import make_pairs
from fxfast.pairs.manifest import read_manifest
from fxfast.pairs.pair_set import load_pairs
from fxfast.pairs.preset_files import SHIPPED, load_presets, preset_host, preset_names
from fxfast.pairs.render_cache import RenderCache


@pytest.fixture
def dry_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "dry"
    folder.mkdir()
    for number, name in enumerate(("one", "two")):
        write_audio(folder / f"{name}.wav", guitar(2.0, number), RATE)
    return folder


def script(tmp_path: Path, body: str) -> str:
    """A command that runs some Python with x, rate, sys.argv and the names of the files."""
    return _script(tmp_path, "import numpy as np, soundfile\nx, rate = soundfile.read(source, "
                   f"dtype='float32')\n{body}")  # fmt: skip


def quick_script(tmp_path: Path, body: str = "") -> str:
    """A command that changes the samples x, an array of floats, and starts at once."""
    read = (
        "import array, random\nhead, mark, rest = open(source, 'rb').read().partition(b'data')\n"
        "x = array.array('f', rest[4:])\n"
    )
    write = "open(target, 'wb').write(head + mark + rest[:4] + array.array('f', x).tobytes())"
    return _script(tmp_path, f"{read}{body}\n{write}")


def _script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "effect.py"
    path.write_text(f"import sys, time, os\nsource, target = sys.argv[1:3]\n{body}\n")
    return f"{sys.executable} -I {path} {{in}} {{out}}"


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
    child = f"import time; time.sleep(1.6); open({str(mark)!r}, 'w')"
    body = f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    with pytest.raises(PairError, match=r"expected an end within 0\.8 s"):
        CommandHost(script(tmp_path, body), timeout_seconds=0.8).render(guitar(0.2), RATE)
    time.sleep(1.4)
    assert not mark.exists()


# --- making pairs with a command -------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others(
    tmp_path: Path, dry_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dry_dir / "zero.wav").write_bytes(b"")
    loudest = float(np.abs(guitar(2.0, 1)).max())
    command = quick_script(tmp_path, f"assert max(map(abs, x)) != {loudest!r}")
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
    command = quick_script(tmp_path, "x = ([0.0] * 700 + list(x))[: len(x)]")
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
    command = quick_script(tmp_path, f"open({str(log)!r}, 'a').write('x')")
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


@pytest.mark.parametrize(("noise", "same"), [("0", True), ("random.random()", False)])
def test_an_effect_that_plays_dice_is_found_out(
    tmp_path: Path, dry_dir: Path, noise: str, same: bool
) -> None:
    command = quick_script(tmp_path, f"x = [v + 1e-3 * {noise} for v in x]")
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
    command = quick_script(tmp_path, "x = [v * float(sys.argv[3]) for v in x]") + " {gain}"
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
    command = quick_script(tmp_path, "x = [v * float(sys.argv[3]) for v in x]") + " {preset}"
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
