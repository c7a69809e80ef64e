"""The command's frame: exit codes, one-line errors, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fxfast import __version__
from fxfast.cli import COMMANDS, build_parser, main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fxfast {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["render"], ["train"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_an_error_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "missing")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("fxfast: error: ")
    assert shown.err.count("\n") == 1


def test_an_interrupt_is_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fxfast.cli import doctor

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    assert main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_every_command_module_is_listed() -> None:
    folder = Path(__file__).resolve().parent.parent / "fxfast" / "cli"
    shared = {"__init__", "model_options", "pair_variants", "progress", "render_options"}
    shared |= {"auto_model", "library_options", "library_watch"}
    modules = {path.stem for path in folder.glob("*.py")} - shared
    assert modules == set(COMMANDS)
    assert build_parser().parse_args(["doctor"]).command == "doctor"


def test_the_parser_loads_no_heavy_module() -> None:
    code = (
        "import sys; from fxfast.cli import build_parser; build_parser(); "
        "bad = {'torch', 'scipy', 'soundfile', 'rich', 'numpy'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doctor_tells_what_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == "built"
    assert found["instruction sets"]["reference"] == "yes"
    assert found["chosen"] in found["instruction sets"]
    assert Path(found["torch library"]).is_file()
    assert found["cuda"].startswith(("yes", "no: "))
    assert main(["doctor"]) == 0
    assert "instruction sets" in capsys.readouterr().out


def test_doctor_says_why_the_engine_does_not_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fxfast._native", None)
    monkeypatch.setattr("fxfast.native.TORCH_LIBRARY", Path("/nowhere/libfxfast_torch.so"))
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "missing: fxfast._native: expected the built engine" in shown
    assert "missing: libfxfast_torch.so" in shown


def test_doctor_reports_a_wrong_forced_instruction_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FXFAST_ISA", "mmx")
    main(["doctor"])
    assert "got 'mmx'" in capsys.readouterr().out
