"""WaveNets with any of their options, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st
from wavenets import WEIGHT_KINDS, Options, random_stack, random_wavenet

from fxfast.graph import FILM_PLACES, MODES, WaveNet

CHANNELS = (1, 2, 3, 5, 7, 12)


@st.composite
def wavenets(draw: st.DrawFn) -> WaveNet:
    seed, channels = draw(st.integers(0, 10_000)), draw(st.sampled_from(CHANNELS))
    condition = draw(st.sampled_from([None, 1, 2, 3]))
    conditioner = None if condition is None else random_stack(seed, [1, 2, condition])
    arrays = [
        draw(array_options(channels, 1 if condition is None else condition))
        for _ in range(draw(st.integers(1, 3)))
    ]
    sums = [options.head1x1 or options.bottleneck or options.channels for options in arrays]
    for options, following in zip(arrays, sums[1:], strict=False):
        options.head_out = following
    kinds, sizes = st.sampled_from(WEIGHT_KINDS), st.integers(1, 4)
    head = draw(st.lists(st.tuples(kinds, sizes, sizes), max_size=2))
    if head:
        arrays[-1].head_out = draw(st.integers(1, 3))
        head[-1] = (head[-1][0], 1, head[-1][2])
    return random_wavenet(seed, arrays, head=head, condition=conditioner)


@st.composite
def array_options(draw: st.DrawFn, channels: int, condition: int) -> Options:
    bottleneck = draw(st.sampled_from([None, channels, 2 * channels, 1, 3]))
    size = bottleneck or channels
    head1x1 = draw(st.sampled_from([None, None, 1, 4, size]))
    groups = [n for n in range(1, channels + 1) if channels % n == 0 and size % n == 0]
    shared = [n for n in groups if head1x1 is None or head1x1 % n == 0]
    layers = draw(st.integers(1, 4))
    kinds = st.lists(st.sampled_from(WEIGHT_KINDS), min_size=1, max_size=3)
    return Options(
        channels,
        bottleneck,
        draw(st.lists(st.integers(1, 4), min_size=layers, max_size=layers)),
        draw(st.lists(st.integers(1, 9), min_size=layers, max_size=layers)),
        draw(st.lists(st.sampled_from(MODES), min_size=1, max_size=3)),
        draw(kinds),
        draw(kinds),
        groups=draw(st.sampled_from(groups)),
        groups_mixin=draw(st.sampled_from([1, condition])) if size % condition == 0 else 1,
        groups_1x1=draw(st.sampled_from(shared)),
        layer1x1=draw(st.booleans()),
        head1x1=head1x1,
        films=draw(st.lists(st.sampled_from(FILM_PLACES), unique=True)),
        shift=draw(st.booleans()),
        head_taps=draw(st.integers(1, 4)),
        head_dilation=draw(st.integers(1, 5)),
        head_bias=draw(st.booleans()),
    )
