"""No accumulator spills to the stack inside an inner loop of multiply-adds."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OBJECTS = ROOT / "build/native-tests/CMakeFiles/fxfast_engine.dir/csrc/kernels"
Instruction = tuple[int, str]


def functions(listing: str) -> dict[str, list[Instruction]]:
    """Name of each function in an objdump listing, and its (address, text) instructions."""
    found: dict[str, list[Instruction]] = {}
    name = ""
    for line in listing.splitlines():
        if header := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            name = header[1]
            found[name] = []
        elif (row := re.match(r"\s*([0-9a-f]+):\s+(.+)$", line)) and name:
            found[name].append((int(row[1], 16), row[2]))
    return found


def inner_loops(body: list[Instruction]) -> list[list[str]]:
    """Instructions of the innermost loops that multiply and add.

    A short loop with a division is an activation beside them, and part of the loop around it.
    """
    spans = []
    for address, text in body:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        if jump and body[0][0] <= int(jump[1], 16) < address:
            begin = int(jump[1], 16)
            # A jump back over a return joins code that the compiler put at the end.
            if not any(t.startswith("ret") for a, t in body if begin <= a <= address):
                spans.append((begin, address))
    loops = {(a, b): [text for address, text in body if a <= address <= b] for a, b in spans}
    sums = [
        span
        for span, loop in loops.items()
        if any(text.startswith("vfmadd") for text in loop)
        and not (len(loop) < 40 and any(text.startswith("vdiv") for text in loop))
    ]
    return [
        loops[a, b]
        for a, b in sums
        if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in sums)
    ]


def spills(loop: list[str]) -> list[str]:
    """Whole vector registers written to the stack. Reading from it alone is a constant that found
    no register: what changes in the loop would have to be written too."""
    return [t for t in loop if re.search(r"%[yz]mm\d+,[-0-9a-fx]*\(%r[sb]p\)", t)]


@pytest.mark.parametrize(("isa", "tiles", "products"), [("avx512", 8, 4), ("avx2", 4, 1)])
def test_inner_loops_do_not_spill(isa: str, tiles: int, products: int) -> None:
    path = OBJECTS / f"kernels_{isa}.cpp.o"
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there: run make test-native")
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump (binutils) is not installed")
    command = [objdump, "-dC", "--no-show-raw-insn", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    checked: set[tuple[str, str]] = set()
    spectral: set[str] = set()
    for name, body in functions(listing).items():
        for loop in inner_loops(body):
            assert spills(loop) == [], name
            tile = re.search(r"(conv|layer)_tile<(\d+), ", name)
            checked |= {(tile[1], tile[2])} if tile else set()
            product = re.search(r"complex_tile<(\d+)>", name)
            spectral |= {product[1]} if product else set()
    assert len(checked) == 2 * tiles  # tiles of every height were seen, of both kinds
    assert len(spectral) == products


def test_the_test_sees_a_spill() -> None:
    listing = """
0000000000000010 <conv_tile<8, 3>>:
      10:	vmovups (%rdx),%zmm2
      16:	vfmadd231ps %zmm3,%zmm2,%zmm11
      1c:	vmovups %zmm11,-0x40(%rsp)
      20:	vpaddd 0x20(%rsp),%zmm5,%zmm5
      26:	jne    16 <conv_tile<8, 3>+0x6>
      28:	jne    10 <conv_tile<8, 3>>
"""
    (body,) = functions(listing).values()
    (loop,) = inner_loops(body)
    assert len(loop) == 4
    assert spills(loop) == ["vmovups %zmm11,-0x40(%rsp)"]
