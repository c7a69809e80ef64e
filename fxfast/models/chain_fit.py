"""How the parts of a chain are found, before any gradient step: in turn, and from each other.

A step through an echo or a room costs its whole memory, and one through a chorus teaches nothing
while its delay is wrong. So what is linear behind a net, or behind a gain that follows the level,
is found first, with a wire in the place of that part; then it is taken back from wet (a filter by
regularised division of spectra; N. Wiener, Extrapolation, Interpolation, and Smoothing of
Stationary Time Series, 1949), the part is found from what is left, and what is behind it is found
again from what that gives (alternating least squares, as for Hammerstein systems: K. Narendra,
P. Gallman, IEEE Trans. Automatic Control 11, 1966).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import scipy.fft
import torch

from fxfast.data import Piece
from fxfast.errors import PairError
from fxfast.graph import ModelGraph, Sequential
from fxfast.models.base import AudioModel, Progress
from fxfast.models.chorus import ChorusModel
from fxfast.models.modulated_fit import without_swing
from fxfast.player import Player

# How often a part and what is linear behind it are found from each other: a net, which learns on in
# steps, and one that is found at once.
_ROUNDS, _FITTED_ROUNDS = 2, 1
# Of the largest power of the response: what is weaker is not brought back.
_REGULARISATION = 1e-3
_RESPONSE_SECONDS = 12.0
# The response is looked at until it has fallen by so much.
_NEGLIGIBLE = 1e-5
_STEPS, _BLOCKS, _LEARNING_RATE = 300, 4, 5e-3
_BLOCK_SAMPLES = (1024, 4096)
# Less is no level to a net.
_QUIETEST_REST = 1e-5

Sound = tuple[np.ndarray, np.ndarray]
Pieces = tuple[list[Piece], list[Piece]]


def fit_chain(
    parts: Sequence[AudioModel], pieces: Pieces, sample_rate: int, progress: Progress
) -> None:
    """Finds all parts from pieces of training and of validation; nets get a good start.

    The same pieces and weights give the same parts. Raises ``PairError`` as the parts do."""
    middle = _part_to_teach(parts)
    if middle is None:
        _fit_in_turn(parts, pieces, sample_rate, progress)
        return
    part, behind = parts[middle], parts[middle + 1 :]
    rounds = _FITTED_ROUNDS if part.has_fit() else _ROUNDS

    def told(done: int) -> Progress:
        return lambda share, note: progress((done + share) / (2 * rounds + 2), note)

    pieces = _fit_in_turn(parts[:middle], pieces, sample_rate, told(0))
    if not part.has_fit():
        _prepare(part, pieces[0], fits_behind=True)
    _fit_in_turn(behind, pieces, sample_rate, told(1))
    for number in range(rounds):
        wanted = _all_taken_back(behind, pieces, sample_rate)
        if part.has_fit():
            part.refit(*wanted, sample_rate, told(2 * number + 2))
        else:
            teach(part, [(p.dry, p.wet) for p in wanted[0]], told(2 * number + 2))
        heard = _all_passed(part, pieces, sample_rate)
        _fit_in_turn(behind, heard, sample_rate, told(2 * number + 3), again=True)


def _part_to_teach(parts: Sequence[AudioModel]) -> int | None:
    """Of the last part that cannot be taken back the place, where parts that can be follow it, and
    where no net before it knows nothing yet."""
    fixed = [index for index, part in enumerate(parts) if not _can_be_taken_back(part)]
    if not fixed or fixed[-1] == len(parts) - 1:
        return None
    unknown = [index for index in fixed if not parts[index].has_fit()]
    return None if unknown and unknown != fixed[-1:] else fixed[-1]


def _can_be_taken_back(part: AudioModel) -> bool:
    return part.is_linear or isinstance(part, ChorusModel)


def _fit_in_turn(
    parts: Sequence[AudioModel],
    pieces: Pieces,
    sample_rate: int,
    progress: Progress,
    *,
    again: bool = False,
) -> Pieces:
    """Fits each part to make wet of what comes to it; what comes behind the last. Nets are wires
    and are told how loud it is around them."""
    fitted = [index for index, part in enumerate(parts) if part.has_fit()]
    for index, part in enumerate(parts):
        if not part.has_fit():
            _prepare(part, pieces[0], fits_behind=bool(fitted) and fitted[-1] > index)
            continue
        done, name = fitted.index(index), part.architecture

        def told(share: float, note: str, done: int = done, name: str = name) -> None:
            progress((done + share) / len(fitted), f"{name}: {note}")

        find = part.refit if again else part.fit
        try:
            find(*pieces, sample_rate, told)
        except PairError as error:
            where = " and ".join(p.architecture for p in parts[:index] if p.has_fit())
            if not where:
                raise
            raise PairError(
                f"{error}; looked for behind {where}, maybe in the wrong order"
            ) from None
        pieces = _all_passed(part, pieces, sample_rate)
    return pieces


def _prepare(net: AudioModel, training: Sequence[Piece], *, fits_behind: bool) -> None:
    """Tells a net how loud it is around it; one with a skip becomes a wire."""
    dry = _rms([piece.dry for piece in training])
    if net.config.skip:
        rest = _rms([piece.wet - piece.dry for piece in training])
        net.calibrate(dry, max(min(rest, dry), _QUIETEST_REST))
        for parameter in net.output_layer.parameters():
            parameter.data.zero_()
        return
    # What is fitted behind a net is fitted to a wire in its place.
    net.calibrate(dry, dry if fits_behind else _rms([piece.wet for piece in training]))


def _all_passed(part: AudioModel, pieces: Pieces, sample_rate: int) -> Pieces:
    player = Player(part.to_graph(sample_rate), mode="stream")
    training, validation = ([_passed(player, piece) for piece in each] for each in pieces)
    return training, validation


def _passed(player: Player, piece: Piece) -> Piece:
    heard = player.render(np.ascontiguousarray(piece.heard))
    return piece._replace(heard=heard, dry=heard[len(heard) - len(piece.dry) :])


def _rms(sounds: Sequence[np.ndarray]) -> float:
    samples = sum(len(sound) for sound in sounds)
    if not samples:
        raise PairError("pairs: expected audio in the training part, got none")
    return float(
        np.sqrt(sum(float(np.sum(np.square(s, dtype=np.float64))) for s in sounds) / samples)
    )


def _all_taken_back(behind: Sequence[AudioModel], pieces: Pieces, rate: int) -> Pieces:
    """Pieces whose wet is what the parts make wet of."""
    training, validation = ([*each] for each in pieces)
    for is_linear, group in groupby(reversed(behind), lambda part: part.is_linear):
        inner = list(group)[::-1]
        response = response_of(inner, rate) if is_linear else None
        for side in (training, validation):
            for index, piece in enumerate(side):
                if response is not None:
                    wet = taken_back(piece.wet, response)
                else:
                    (swinging,) = inner
                    assert isinstance(swinging, ChorusModel)
                    assert swinging.found is not None
                    wet = without_swing(swinging.found, piece.wet, piece.start_sample)
                side[index] = piece._replace(wet=wet)
    return training, validation


def response_of(parts: Sequence[AudioModel], rate: int) -> np.ndarray:
    """The impulse response of linear parts in a row, as the engine plays them."""
    click = np.zeros(round(_RESPONSE_SECONDS * rate), np.float32)
    click[0] = 1.0
    row = Sequential(tuple(part.to_graph(rate).root for part in parts))
    click = Player(ModelGraph(row, rate), threads=1).render(click)
    loud = np.flatnonzero(np.abs(click) > _NEGLIGIBLE * np.abs(click).max())
    return click[: loud[-1] + 1] if len(loud) else click[:1]


def taken_back(wet: np.ndarray, response: np.ndarray) -> np.ndarray:
    """What the response makes wet of, near enough: float32 of the length of wet."""
    size = scipy.fft.next_fast_len(len(wet) + len(response), real=True)
    of_response = scipy.fft.rfft(response.astype(np.float64), size)
    power = np.square(np.abs(of_response))
    floor = _REGULARISATION * float(power.max()) + 1e-30
    spectrum = scipy.fft.rfft(wet.astype(np.float64), size) * np.conj(of_response)
    found: np.ndarray = scipy.fft.irfft(spectrum / (power + floor), size)[: len(wet)]
    return found.astype(np.float32)


def teach(net: AudioModel, sounds: Sequence[Sound], progress: Callable[[float, str], None]) -> None:
    """Steps by which a net learns to make the second of each pair of sounds of the first.

    The same sounds and weights give the same weights."""
    field = net.receptive_field
    block = min(max(field, _BLOCK_SAMPLES[0]), _BLOCK_SAMPLES[1])
    long_enough = [(x, y) for x, y in sounds if len(x) >= field + block - 1]
    if not long_enough:
        return
    floor = float(np.mean([np.mean(np.square(y, dtype=np.float64)) for _, y in long_enough]))
    parameters = [parameter for parameter, _ in net.parameter_step_sizes()]
    optimizer = torch.optim.Adam(parameters, lr=_LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    random = np.random.default_rng(0)
    ends = np.cumsum([len(x) - field - block + 2 for x, _ in long_enough])
    for step in range(_STEPS):
        x_bct, y_bct = _batch(long_enough, ends, random.integers(ends[-1], size=_BLOCKS),
                              field, block)  # fmt: skip
        error = (net(x_bct) - y_bct).square().mean((1, 2))
        loss = (error / (y_bct.square().mean((1, 2)) + 0.1 * floor + 1e-20)).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            progress(step / _STEPS, f"net alone, loss {float(loss.detach()):.2g}")


def _batch(
    sounds: Sequence[Sound], ends: np.ndarray, places: np.ndarray, field: int, block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = []
    for place in places:
        index = int(np.searchsorted(ends, place, "right"))
        start = int(place - (ends[index - 1] if index else 0))
        stop = start + field + block - 1
        x, y = sounds[index]
        rows.append((x[start:stop], y[start + field - 1 : stop]))
    x_bt, y_bt = (np.stack(each) for each in zip(*rows, strict=True))
    return torch.from_numpy(x_bt)[:, None], torch.from_numpy(y_bt)[:, None]
