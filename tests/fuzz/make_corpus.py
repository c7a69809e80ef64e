"""Makes the corpus anew: ``python -m tests.fuzz.make_corpus``. Small files, one of each kind."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
import soundfile

from fxfast import exchange
from fxfast.pairs.manifest import PairRecord, write_manifest
from fxfast.rendering.journal import encode_line

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fake_player import one_layer_graph  # noqa: E402
from families import FAMILIES, convnet_document  # noqa: E402
from nam_documents import new_array, old_array, wavenet  # noqa: E402
from wave_bytes import chunk, codes, fmt, pack, riff, wave  # noqa: E402

from fxfast.graph import ModelGraph  # noqa: E402


def audio() -> dict[str, bytes]:
    x_tc = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2)).astype(np.float32)
    found = {f"int{bits}.wav": wave(codes(2, 20, bits), bits) for bits in (8, 16, 24, 32)}
    for format, subtype in (
        ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
        ("W64", "PCM_24"), ("AIFF", "PCM_24"), ("AIFF", "FLOAT"), ("WAV", "ULAW"),
        ("FLAC", "PCM_16"), ("CAF", "PCM_16"),
    ):  # fmt: skip
        file = io.BytesIO()
        soundfile.write(file, x_tc, 48_000, subtype, format=format)
        found[f"{format}-{subtype}".lower()] = file.getvalue()
    data = chunk(b"data", pack(codes(1, 20), 16))
    cue = struct.pack("<III4sIII", 1, 1, 5, b"data", 0, 0, 5)
    loop = struct.pack("<9I6I", 0, 0, 20833, 60, 0, 0, 0, 1, 0, 0, 0, 2, 9, 0, 0)
    info = b"INFO" + chunk(b"INAM", b"name\0") + chunk(b"IART", b"artist\0")
    found["metadata.wav"] = riff(
        chunk(b"bext", bytes(602)), fmt(), chunk(b"LIST", info), data, chunk(b"cue ", cue),
        chunk(b"smpl", loop), chunk(b"iXML", b"<BWFXML><FILE_SAMPLE_RATE>48000</FILE_SAMPLE_RATE>"),
    )  # fmt: skip
    found["streamed.wav"] = riff(fmt(), chunk(b"data", bytes(20), 0xFFFFFFFF), size=0xFFFFFFFF)
    return found


def nam() -> dict[str, bytes]:
    documents = {
        "wavenet-old": wavenet(old_array()),
        "wavenet-new": wavenet(new_array(gating_mode=["gated", "blended"])),
        "convnet": convnet_document(2, [1, 2], True),
    }
    return {f"{name}.nam": json.dumps(found).encode() for name, found in documents.items()}


def native(folder: Path) -> dict[str, bytes]:
    graphs = {"one": one_layer_graph(0.5, 0.25)}
    for name in ("gru with skip", "conv and lstm", "wavenet"):
        graphs[name.replace(" ", "-")] = ModelGraph(FAMILIES[name](), 48_000)
    path = folder / "model.safetensors"
    found = {}
    for name, graph in graphs.items():
        exchange.save(graph, path)
        found[f"{name}.safetensors"] = path.read_bytes()
    path.unlink()
    return found


def journal() -> dict[str, bytes]:
    run = {"run": "abc", "version": 1, "model": "m", "settings": {}, "engine": "e"}
    done = {"out": "a.wav", "in": "/in/a.wav", "id": [10, 20], "run": "abc", "file": [1, 2]}
    lines = [encode_line(values) for values in (run, done, {**done, "out": "b\udcff.wav"})]
    return {"whole": b"".join(lines), "torn": b"".join(lines)[:-9], "twice": lines[1] * 3}


def manifest(folder: Path) -> dict[str, bytes]:
    record = PairRecord("a", "dry/a.wav", "wet/a.wav", "0" * 64, "1" * 64, 48_000, 100)
    write_manifest(folder, [record, PairRecord("b", "dry/b.wav", "wet/b.wav", "", "", 1, 1)])
    path = folder / "pairs.jsonl"
    found = {"two": path.read_bytes()}
    path.unlink()
    return found


def main() -> None:
    corpus = HERE / "corpus"
    made = {
        "audio": audio(), "nam": nam(), "native": native(HERE), "journal": journal(),
        "manifest": manifest(HERE),
    }  # fmt: skip
    for target, files in made.items():
        (corpus / target).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (corpus / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
