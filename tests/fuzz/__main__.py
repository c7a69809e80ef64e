"""``python -m tests.fuzz TARGET --seconds N``: look for files that break a reader.

With atheris (coverage-guided, of PyPI) where it is installed, else by mutations alone. A file that
breaks the reader is left in ``build/fuzz`` and the exit code is not 0.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "fuzz"
CORPUS = HERE / "corpus"
NAMES = ("audio", "nam", "native", "journal", "manifest")
MAX_BYTES = 1 << 16


def corpus_of(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def guided(name: str, seconds: int, seed: int) -> None:
    """libFuzzer's loop over instrumented Python; does not return."""
    import atheris

    with atheris.instrument_imports(include=["fxfast"]):
        from tests.fuzz.targets import TARGETS
    found = BUILD / f"{name}-corpus"
    found.mkdir(parents=True, exist_ok=True)
    options = [
        sys.argv[0],
        str(found),
        str(CORPUS / name),
        f"-max_total_time={seconds}",
        f"-seed={seed}",
    ]
    options += [f"-max_len={MAX_BYTES}", f"-artifact_prefix={BUILD}/{name}-", "-timeout=10"]
    options += ["-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup(options, TARGETS[name])
    atheris.Fuzz()


def unguided(name: str, seconds: float, seed: int = 0) -> int:
    """Mutations until the time is up; how many ran. Raises what the target raises."""
    from tests.fuzz.mutate import mutations
    from tests.fuzz.targets import TARGETS

    target, count, started = TARGETS[name], 0, time.thread_time()
    corpus = corpus_of(name)
    for data in corpus:
        target(data)
    for data in mutations(corpus, seed):
        if time.thread_time() - started > seconds:
            break
        try:
            target(data)
        except BaseException:
            BUILD.mkdir(parents=True, exist_ok=True)
            (BUILD / f"{name}-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=60, help="CPU seconds (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="0: with atheris another each time")
    args: Any = parser.parse_args()
    sys.path.insert(0, str(HERE.parents[1]))
    if importlib.util.find_spec("atheris") is not None:
        guided(args.target, args.seconds, args.seed)
    count = unguided(args.target, args.seconds, args.seed)
    print(f"{args.target}: {count} files, no finding")


if __name__ == "__main__":
    main()
