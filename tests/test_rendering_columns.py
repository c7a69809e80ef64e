"""The engine's tables of a library run beside their plain twins: the same numbers, to the last."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import zlib
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_player import FakePlayer
from library_faults import environment, render, sound
from numpy.random import default_rng

from fxfast.errors import InputError
from fxfast.rendering import folder_listing, journal, resume, work_key
from fxfast.rendering.folder_listing import (
    NO_FILE,
    PlainFolderNames,
    PlainOutputFolder,
    Rows,
    list_files,
)
from fxfast.rendering.journal import Entries, encode_line, read_entries
from fxfast.rendering.output_names import OutputNames
from fxfast.rendering.plan import Plan
from fxfast.rendering.resume import PlainKeyIndex, absolute_folders, plain_work_keys, work_keys
from fxfast.rendering.scan import scan_inputs, scan_list

native = pytest.importorskip("fxfast._native", reason="the engine is not built")
SUFFIXES = (b".wav", b".flac")


def go_plain(patch: pytest.MonkeyPatch) -> None:
    from fxfast.rendering import file_table

    for module in (folder_listing, journal, resume, file_table):
        patch.setattr(module, "engine_if_built", lambda: None)


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    """A folder with everything that a folder can hold."""
    top = os.fsencode(tmp_path / "in")
    os.mkdir(top)
    names = [b"b.wav", b"a.WAV", b"B.flac", b"\xff.wav", "é.wav".encode(), b"x.txt", b".hid.wav"]
    names += [b"no suffix", b"wav", b".wav", b"a.wav.wav", b"trailing.wav ", b"line\nfeed.wav"]
    for number, name in enumerate(names):
        with open(os.path.join(top, name), "wb") as file:
            file.write(bytes(number))
    os.mkdir(os.path.join(top, b"sub"))
    os.mkdir(os.path.join(top, b"folder.wav"))
    os.mkfifo(os.path.join(top, b"pipe.wav"))
    os.symlink(b"b.wav", os.path.join(top, b"link.wav"))
    os.symlink(b"nowhere", os.path.join(top, b"dangling"))
    return top


def test_folders_are_listed_as_python_lists_them(folder: bytes) -> None:
    quick, plain = native.FolderNames(folder, list(SUFFIXES)), PlainFolderNames(folder, SUFFIXES)
    assert (len(quick), quick.others) == (len(plain), plain.others) == (7, plain.others)
    assert plain.others == [b"dangling", b"folder.wav", b"link.wav", b"pipe.wav", b"sub"]
    for begin, end in ((0, 7), (2, 5), (7, 7)):
        assert Rows(*quick.rows(begin, end, 100)) == plain.rows(begin, end, 100)
    for name in (b"", b"a", b"b.wav", b"b.wav\0", b"\xff\xff"):
        assert quick.before(name) == plain.before(name)
    with pytest.raises(InputError, match="rows: expected some of the folder"):
        quick.rows(5, 8, 0)


def test_files_that_go_while_they_are_listed_have_their_rows(folder: bytes) -> None:
    listings = native.FolderNames(folder, list(SUFFIXES)), PlainFolderNames(folder, SUFFIXES)
    os.unlink(os.path.join(folder, b"B.flac"))
    os.unlink(os.path.join(folder, b"b.wav"))
    os.mkdir(os.path.join(folder, b"b.wav"))
    quick, plain = (Rows(*listing.rows(0, 7, 0)) for listing in listings)
    assert quick == plain
    assert sorted(error for _, error in quick.bad) == [NO_FILE, 2]


def test_a_folder_that_cannot_be_listed_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, kind in (("none", FileNotFoundError), ("file", NotADirectoryError)):
        path = os.fsencode(tmp_path / name)
        with pytest.raises(kind, match=name):
            list_files(path, SUFFIXES)
        with pytest.raises(kind, match=name):
            native.OutputFolder(path, b"")
    with pytest.raises(OSError, match="Invalid argument"):
        native.FolderNames(b"a\0b", [])


def test_outputs_are_found_as_python_finds_them(folder: bytes) -> None:
    def everything(listing: Any) -> tuple[set[tuple[bytes, ...]], list[bytes]]:
        found = set()
        while columns := [bytes(column) for column in listing.next(3)]:
            if not columns[0]:
                break
            count = len(columns[0]) // 8
            assert count <= 3
            found |= {tuple(c[8 * at : 8 * at + 8] for c in columns) for at in range(count)}
        return found, sorted(listing.hidden)

    quick = everything(native.OutputFolder(folder, b"head/"))
    assert quick == everything(PlainOutputFolder(folder, b"head/"))
    assert (len(quick[0]), quick[1]) == (16, [b".hid.wav", b".wav"])


def test_keys_are_found_as_a_dictionary_finds_them() -> None:
    random = default_rng(0)
    for count in (0, 1, 7, 16, 1000):
        # Keys that begin at the same place of the table among those that do not.
        keys = array("q", (random.integers(-50, 50, count) << 20 | random.integers(0, 3)).tolist())
        use = np.array(random.integers(0, 2, count), np.uint8)
        # Two that are used never share a key.
        for at in range(count):
            use[at] &= keys[at] not in {keys[other] for other in range(at) if use[other]}
        wanted = np.array([*keys, *random.integers(-60, 60, 100)], np.int64)
        quick = native.KeyIndex(keys, use).places(wanted)
        assert quick == PlainKeyIndex(keys, use.tolist()).places(wanted)


@pytest.mark.parametrize("kind", ["folder", "list"])
@pytest.mark.parametrize("names", [OutputNames(), OutputNames("flac", "", True, True)])
def test_plans_have_the_keys_of_their_names(
    folder: bytes, tmp_path: Path, kind: str, names: OutputNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = os.fsdecode(folder)
    os.makedirs(f"{top}/sub/Ünter")
    for name in ("sub/A.Wav", "sub/Ünter/ß.wav", "sub/Ünter/none.ogg", "sub/last.b/c"):
        os.makedirs(os.path.dirname(f"{top}/{name}"), exist_ok=True)
        Path(f"{top}/{name}").touch()
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"b.wav\nsub/A.Wav\nsub/last.b/c\nnone.wav\n" + "sub/Ünter/ß.wav".encode())

    def planned() -> tuple[Plan, list[int]]:
        table = scan_inputs([top]) if kind == "folder" else scan_list(listed, top)
        plan = Plan(table, tmp_path / "out", names)
        job_n, runs = np.arange(len(plan)), ["ab-1"]
        paths = table.paths(absolute_folders(plan))
        keys = work_keys(plan, paths, job_n, runs).tolist()
        assert keys == list(plain_work_keys(plan, job_n.tolist(), runs))
        return plan, keys

    quick, quick_keys = planned()
    go_plain(monkeypatch)
    plain, plain_keys = planned()
    assert len(quick) == (13 if kind == "folder" else 5)
    for part in ("rows", "out_key", "folded_key", "out_folders"):
        assert getattr(quick, part) == getattr(plain, part), part
    assert vars(quick.table) == vars(plain.table)
    assert quick_keys == plain_keys


def test_columns_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="expected items of 8 bytes in one piece, got items of 4"):
        native.KeyIndex(array("i", [1, 2]), np.ones(2, np.uint8))
    with pytest.raises(InputError, match="expected items of 8 bytes in one piece"):
        native.KeyIndex(np.arange(4)[::2], np.ones(2, np.uint8))
    with pytest.raises(InputError, match="expected more rows"):
        native.KeyIndex(np.arange(4), np.ones(2, np.uint8))
    ends, folder = array("q", [0, 3]), array("i", [1])
    paths = native.Paths(b"abc", ends, folder, [b""])
    with pytest.raises(InputError, match="folder: expected one that is named"):
        paths.output_keys(1, array("q", [0]), lambda suffix: suffix, lambda path: path)
    paths = native.Paths(b"ab", ends, array("i", [0]), [b""])
    with pytest.raises(InputError, match="name: expected one inside the names"):
        paths.output_keys(1, array("q", [0]), lambda suffix: suffix, lambda path: path)


# --- the journal -------------------------------------------------------------------------


def columns_of(entries: Entries) -> list[array[int] | int]:
    return [
        *(entries.out_key, entries.work_key, entries.run_key, entries.size, entries.mtime_ns),
        entries.bad_lines,
    ]


def read_both(lines: bytes) -> Entries:
    """What the engine reads, which is what its twin reads."""
    quick, plain = Entries(), Entries()
    quick.add_lines(lines)
    for line in lines.splitlines(keepends=True):
        plain.add(line)
    assert columns_of(quick) == columns_of(plain)
    return quick


@pytest.mark.parametrize("name", [b"a.wav", b"b/\xff.wav", "b/é.wav".encode(), b'q"\\.wav', b""])
@pytest.mark.parametrize("identity", [[7, -5], [7, "0" * 64], [7, 10**18], [10**19, 1], [-1, 0]])
@pytest.mark.parametrize("mtime_ns", [0, 1_800_000_000_123_456_789, -1, 1 << 63, -(1 << 63)])
def test_journal_lines_are_read_as_json_is(
    name: bytes, identity: list[object], mtime_ns: int
) -> None:
    text = os.fsdecode(name)
    file = {"out": text, "in": "/in/" + text, "id": identity, "run": "ab-1"}
    line = encode_line({**file, "file": [3, mtime_ns]})
    by_json = Entries()
    by_json._add_any(line)
    assert columns_of(read_both(line)) == columns_of(by_json)
    assert len(by_json) == (mtime_ns < 1 << 63)
    torn = read_both(line.replace(b":[3,", b":[4,"))
    assert (len(torn), torn.bad_lines) == (0, 1)


def journal_bytes() -> bytes:
    lines = [encode_line({"run": "ab-1", "version": 1, "model": "m"})]
    for number in range(40):
        run = ("ab-1", "ab-2", "cd-1", "")[number % 4]
        out = "é.wav" if number % 7 == 0 else f"song {number % 11}.wav"
        identity = {"in": f"/in/{out}", "id": [number, -number], "run": run, "file": [number, 5]}
        lines.append(encode_line({"out": out, **identity}))
    return b"".join(lines)


def test_any_damage_of_a_journal_is_read_as_the_twin_reads_it() -> None:
    """Bits flipped, bytes lost and put in, ends torn: never a line that is not what was written."""
    whole, chance = journal_bytes(), random.Random(0)
    good = set(zip(*columns_of(read_both(whole))[:-1], strict=True))  # type: ignore[arg-type]
    assert len(good) == 40
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            action = chance.randrange(4)
            if action == 0:
                data[at] ^= 1 << chance.randrange(8)
            elif action == 1:
                del data[at : at + chance.randint(1, 30)]
            elif action == 2:
                data[at:at] = bytes(chance.choices(b'\n"\\,0\x00\xff', k=chance.randint(1, 5)))
            else:
                del data[at:]
            if not data:
                break
        # Only newlines end a line of a journal: not what else Python takes for one.
        lines = bytes(data).replace(b"\r", b"")
        found = read_both(lines)
        assert set(zip(*columns_of(found)[:-1], strict=True)) <= good  # type: ignore[arg-type]


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("tail", [b"", b"torn", b"x" * 1000])
def test_journals_are_read_alike_in_pieces_of_any_size(
    tmp_path: Path, piece_bytes: int, tail: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_PIECE_BYTES", piece_bytes)
    (tmp_path / "journal").write_bytes(journal_bytes() + tail)
    fd = os.open(tmp_path / "journal", os.O_RDONLY)
    found = Entries()

    def take(entries: Entries) -> None:
        for column, part in zip(columns_of(found)[:-1], columns_of(entries)[:-1], strict=True):
            column.extend(part)  # type: ignore[union-attr]

    try:
        found.bad_lines = read_entries(fd, take)
    finally:
        os.close(fd)
    assert columns_of(found)[:-1] == columns_of(read_both(journal_bytes()))[:-1]
    assert found.bad_lines == bool(tail)


def test_the_checksum_of_lines_is_that_of_zlib() -> None:
    """By the lines that it lets through: one of every length up to 300."""
    for length in range(300):
        body = b'"out":"%b","in":"i","id":[1,2],"run":"r","file":[3,4]}\n' % (b"x" * length)
        good = b'{"crc":"%08x",%b' % (zlib.crc32(body), body)
        columns = native.journal_lines(good, lambda line: pytest.fail(f"not plain: {line!r}"))
        assert all(len(column) == 8 for column in columns)


def test_hashes_without_openssl_are_those_of_hashlib() -> None:
    code = (
        "import sys; from fxfast.rendering.work_key import sha256; d = sha256(b'ab'); "
        "d.update(b'c'); assert 'hashlib' not in sys.modules; print(d.hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(b"abc").hexdigest()
    assert work_key.sha256(b"abc").hexdigest() == hashlib.sha256(b"abc").hexdigest()


# --- a run -------------------------------------------------------------------------------


def test_a_run_without_the_engine_takes_up_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the other way round: neither renders again what the other has done."""
    names = ("a.wav", "sub/é.wav", "sub/b.flac")
    for number, name in enumerate(names):
        sound(tmp_path / "in" / name, 1000 + number)
    player = FakePlayer(0.5, 0.25)
    for plain_first in (False, True):
        out = tmp_path / f"out-{plain_first}"
        with monkeypatch.context() as patch:
            if plain_first:
                go_plain(patch)
            assert render([tmp_path / "in"], out, player).count("rendered") == 3
        sound(tmp_path / "in" / "a.wav", 1500 + plain_first)
        with monkeypatch.context() as patch:
            if not plain_first:
                go_plain(patch)
            again = render([tmp_path / "in"], out, player)
        assert (again.count("rendered"), again.count("done")) == (1, 2)
