"""Fault 48: the readers on mutated files, the same in every run, and that a finding is noticed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fxfast.audio.sample_codings import SampleDecoder
from tests.fuzz import targets
from tests.fuzz.__main__ import NAMES, corpus_of
from tests.fuzz.mutate import mutations

MUTATIONS = 400


@pytest.mark.parametrize("name", NAMES)
def test_fault_case_48_mutated_files(name: str) -> None:
    corpus = corpus_of(name)
    for data in itertools.chain(corpus, itertools.islice(mutations(corpus, 1), MUTATIONS)):
        targets.TARGETS[name](data)


def test_fault_case_48_every_target_has_a_small_corpus() -> None:
    assert set(NAMES) == set(targets.TARGETS)
    for name in NAMES:
        assert corpus_of(name)
        assert sum(map(len, corpus_of(name))) < 1 << 16


def test_fault_case_48_a_wrong_sample_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with libsndfile can fail: a decoder that is off by one step is found."""
    (data,) = [d for d in corpus_of("audio") if d[:4] == b"RIFF" and len(d) == 124]
    targets.audio(data)
    read = SampleDecoder.read

    def wrong(self: SampleDecoder, fd: int, out_ct: np.ndarray, offset: int) -> int:
        got = read(self, fd, out_ct, offset)
        out_ct[0, -1] += np.float32(2.0**-15)
        return got

    monkeypatch.setattr(SampleDecoder, "read", wrong)
    with pytest.raises(AssertionError):
        targets.audio(data)
