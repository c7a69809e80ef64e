"""A picture of a pair, as SVG: waveforms overlaid, correlation, transfer curve, spectra."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from scipy.signal import welch

from fxfast.audio.align import correlation_function
from fxfast.pairs.check_pairs import CheckedPair
from fxfast.whole_file import whole_file

_WIDTH, _HEIGHT, _MARGIN = 440, 240, 40
_COLOURS = {"dry": "#1f77b4", "wet": "#d62728"}
_ZOOM_SECONDS = 0.02
_CORRELATION_FRAMES = 1 << 18
_CORRELATION_REACH = 200
_CURVE_POINTS = 2000


def write_picture(pair: CheckedPair, path: Path) -> None:
    """Write the four panels of an accepted pair, as stored, to an SVG file."""
    assert pair.dry is not None
    assert pair.wet is not None
    panels = [
        _waveforms(pair.dry, pair.wet, pair.sample_rate),
        _correlation(pair.dry, pair.wet),
        _transfer(pair.dry, pair.wet),
        _spectra(pair.dry, pair.wet, pair.sample_rate),
    ]
    rows = [f'<text x="8" y="18" font-size="14">{escape(_title(pair))}</text>']
    for index, panel in enumerate(panels):
        x, y = (index % 2) * _WIDTH, 24 + (index // 2) * _HEIGHT
        rows.append(f'<g transform="translate({x},{y})">{panel}</g>')
    body = "\n".join(rows)
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * _WIDTH}" '
        f'height="{2 * _HEIGHT + 30}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _title(pair: CheckedPair) -> str:
    found = pair.alignment
    name = "".join(c if c.isprintable() else "?" for c in pair.name)
    if found is None:
        return f"{name}: {pair.status}"
    return (
        f"{name}: {pair.status}, offset {found.offset_samples:.2f} samples, polarity "
        f"{found.polarity:+d}, gain {found.gain_db:+.1f} dB, confidence {found.confidence:.2f}"
    )


def _waveforms(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> str:
    """A stretch round the loudest moment of the dry, both scaled to their peaks."""
    half = max(8, round(_ZOOM_SECONDS * sample_rate / 2))
    centre = min(max(int(np.argmax(np.abs(dry))), half), max(half, len(dry) - half))
    start, stop = max(0, centre - half), min(len(dry), centre + half)
    time = 1e3 * np.arange(start, stop) / sample_rate
    lines = {
        name: x[start:stop] / max(float(np.max(np.abs(x[start:stop]))), 1e-9)
        for name, x in (("dry", dry), ("wet", wet))
    }
    return _panel("waveforms, each at its own scale", "ms", time, lines)


def _correlation(dry: np.ndarray, wet: np.ndarray) -> str:
    start = max(0, (len(dry) - _CORRELATION_FRAMES) // 2)
    a, b = (x[start : start + _CORRELATION_FRAMES] for x in (dry, wet))
    reach = min(_CORRELATION_REACH, len(a) // 2)
    values = correlation_function(a, b, reach)
    top = max(float(np.max(np.abs(values))), 1e-30)
    lags = np.arange(-reach, reach + 1)
    return _panel("correlation, softly whitened", "samples", lags, {"wet": values / top})


def _transfer(dry: np.ndarray, wet: np.ndarray) -> str:
    """Wet over dry, sample by sample: a line for a gain, a curve or a cloud for the rest."""
    places = np.linspace(0, len(dry) - 1, min(len(dry), _CURVE_POINTS)).astype(int)
    return _panel("transfer: wet over dry", "dry", dry[places], {"wet": wet[places]}, dots=True)


def _spectra(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> str:
    size = min(4096, len(dry))
    lines = {}
    for name, x in (("dry", dry), ("wet", wet)):
        hertz, power = welch(x, sample_rate, nperseg=size)
        lines[name] = 10.0 * np.log10(power[1:] + 1e-20)
    return _panel("spectra, dB", "log10 Hz", np.log10(hertz[1:]), lines)


def _panel(
    title: str, unit: str, x: np.ndarray, lines: dict[str, np.ndarray], dots: bool = False
) -> str:
    values = np.concatenate(list(lines.values()))
    x_span, y_span = _span(x), _span(values)
    parts = [
        f'<text x="{_MARGIN}" y="14">{escape(title)}</text>',
        f'<rect x="{_MARGIN}" y="20" width="{_WIDTH - _MARGIN - 10}" '
        f'height="{_HEIGHT - 50}" fill="none" stroke="#999"/>',
        f'<text x="{_MARGIN}" y="{_HEIGHT - 16}">{x_span[0]:.4g}</text>',
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 16}" text-anchor="end">'
        f"{x_span[1]:.4g} {escape(unit)}</text>",
        f'<text x="{_MARGIN - 3}" y="30" text-anchor="end">{y_span[1]:.3g}</text>',
        f'<text x="{_MARGIN - 3}" y="{_HEIGHT - 32}" text-anchor="end">{y_span[0]:.3g}</text>',
    ]
    for name, y in lines.items():
        points = _points(x, y, x_span, y_span)
        if dots:
            circles = "".join(f"M{px},{py}h1" for px, py in points)
            parts.append(f'<path d="{circles}" stroke="{_COLOURS[name]}"/>')
        else:
            path = " ".join(f"{px},{py}" for px, py in points)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{_COLOURS[name]}" '
                'stroke-width="0.8"/>'
            )
    return "".join(parts)


def _points(
    x: np.ndarray, y: np.ndarray, x_span: Sequence[float], y_span: Sequence[float]
) -> list[tuple[str, str]]:
    across = _MARGIN + (_WIDTH - _MARGIN - 10) * (x - x_span[0]) / (x_span[1] - x_span[0])
    down = 20 + (_HEIGHT - 50) * (y_span[1] - y) / (y_span[1] - y_span[0])
    return [(f"{px:.1f}", f"{py:.1f}") for px, py in zip(across, down, strict=True)]


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    return (low, high) if high > low else (low - 1.0, high + 1.0)
