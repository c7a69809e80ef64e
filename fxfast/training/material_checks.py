"""Can anything be learnt from this material? Asked before the time of a run is spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.fft

from fxfast.audio.files import printable
from fxfast.data import Data, Piece
from fxfast.errors import PairError
from fxfast.pairs.check_pairs import CheckedPair, CheckRules, check_pair
from fxfast.pairs.pair_set import Pair

# Less than this for training is learnt by heart.
FEW_SECONDS = 20.0
# The lowest frequencies of the octaves in which parts are compared.
OCTAVES_HZ = (40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 5120.0)
# What is so much of the test and so much less of training decides a score and was not learnt.
_MUCH, _LESS = 0.05, 1e-3
# An effect of its own has hardly so much delay without the dry beside it.
_LATE_SECONDS = 0.01
# Of a long recording the loudest stretch of this length tells enough.
_LOOKED_AT_SECONDS = 60.0
# A pair of a folder is what somebody made or recorded; its offset and polarity stay as they are.
_RULES = CheckRules(fix_offset=False, fix_polarity=False)
# What cannot be learnt whatever one does.
_FATAL = ("belongs", "dry_peak", "wet_peak", "dry_clipping", "wet_clipping", "length", "drift")


def check_material(material: Data | Sequence[Pair]) -> list[str]:
    """What may spoil the result, a line each.

    Raises ``PairError``, a line with the pair, the figure and what was expected, for a pair that is
    silent, clipped for a good part, too short, that drifts or whose sides do not belong together.
    """
    warnings: list[str] = []
    for name, dry, wet, rate in _sides(material):
        checked = check_pair(name, dry[None], rate, wet[None], rate, _RULES)
        for finding in checked.findings:
            if finding.action == "refused" and finding.check in _FATAL:
                raise PairError(
                    f"pair {printable(name)}: {finding.reason}; nothing can be learnt from it "
                    f"(`fxfast pairs check` says more, --no-check trains all the same)"
                )
        warnings += [f"pair {printable(name)}: {reason}" for reason in _warned(checked, rate)]
    return warnings


def check_amount(data: Data) -> list[str]:
    """A line where there is little to learn from."""
    seconds = data.train.samples / data.sample_rate
    if seconds >= FEW_SECONDS:
        return []
    return [
        f"pairs: {seconds:.1f} s for training, expected {FEW_SECONDS:.0f} s or more (a minute is "
        f"better): the model may learn them by heart"
    ]


def check_coverage(data: Data) -> list[str]:
    """A line for each octave that the test asks for and training does not have."""
    parts = (data.train, data.test)
    trained, tested = (
        octave_shares([(piece.dry, data.sample_rate) for piece in part.pieces()]) for part in parts
    )
    return [
        f"pairs: dry has {test:.0%} of its energy in the test from {hz:g} to {2 * hz:g} Hz, in "
        f"training {train:.2%}: what the effect does there is not learnt"
        for hz, train, test in zip(OCTAVES_HZ, trained, tested, strict=True)
        if test > _MUCH and train < _LESS * test
    ]


def octave_shares(sounds: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """The share of the energy of sounds (T), each with its rate in Hz, in each octave of
    ``OCTAVES_HZ``; zeros for silence."""
    power, whole = np.zeros(len(OCTAVES_HZ)), 1e-30
    for x, rate in sounds:
        start, stop = _stretch(x, round(_LOOKED_AT_SECONDS * rate))
        squares = np.square(np.abs(scipy.fft.rfft(x[start:stop].astype(np.float64))))
        energy = squares / max(stop - start, 1)
        hz = np.fft.rfftfreq(stop - start, 1.0 / rate)
        whole += float(energy.sum())
        power += [energy[(hz >= low) & (hz < 2.0 * low)].sum() for low in OCTAVES_HZ]
    return np.asarray(power / whole)


def _warned(checked: CheckedPair, rate: int) -> list[str]:
    warned = []
    for finding in checked.findings:
        if finding.action not in ("warned", "refused") or finding.check == "noise_floor":
            continue
        reason = finding.reason
        if finding.check == "offset" and abs(finding.figure) > _LATE_SECONDS * rate:
            reason += "; `fxfast pairs add` takes that out of a recording"
        warned.append(reason)
    return warned


def _sides(
    material: Data | Sequence[Pair],
) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    if isinstance(material, Data):
        pieces: Iterator[Piece] = material.train.pieces()
        sides = ((piece.name, piece.dry, piece.wet, material.sample_rate) for piece in pieces)
    else:
        sides = ((pair.name, pair.dry, pair.wet, pair.sample_rate) for pair in material)
    for name, dry, wet, rate in sides:
        start, stop = _stretch(dry, round(_LOOKED_AT_SECONDS * rate))
        yield name, dry[start:stop], wet[start:stop], rate


def _stretch(x: np.ndarray, samples: int) -> tuple[int, int]:
    """The part of so many samples, at a multiple of half of it, with the most energy."""
    if len(x) <= samples:
        return 0, len(x)
    starts = range(0, len(x) - samples + 1, max(1, samples // 2))
    energies = [float(np.square(x[s : s + samples], dtype=np.float64).sum()) for s in starts]
    start = starts[int(np.argmax(energies))]
    return start, start + samples
