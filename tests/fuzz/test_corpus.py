"""Every seed and every input that once was a defect, again; and some fuzzing without atheris."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.policy import loader, reading
from tests.fuzz import targets
from tests.fuzz.driver import LIMIT, SIZE

SEEDS = [(name, path) for name in targets.TARGETS for path in targets.corpus(name)]
CONTENT = {name: [path.read_bytes() for path in targets.corpus(name)] for name in targets.TARGETS}


@pytest.mark.parametrize(
    ("target", "seed"), [(name, path.name) for name, path in SEEDS],
)
def test_seeds(target: str, seed: str) -> None:
    targets.TARGETS[target]((targets.CORPUS / target / seed).read_bytes())


def test_seeds_are_small() -> None:
    assert SEEDS
    for _, path in SEEDS:
        assert path.stat().st_size < 16_384, path


@st.composite
def spoiled(draw: st.DrawFn, target: str) -> bytes:
    """A seed, cut, doubled, overwritten, and crossed with another."""
    data = bytearray(draw(st.sampled_from(CONTENT[target])))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from([0, 1, 2, 8, 40, 400])))
        other = draw(st.sampled_from(CONTENT[target]))
        at = draw(st.integers(0, len(other)))
        data[begin:end] = draw(st.one_of(
            st.just(b""), st.binary(max_size=6), st.just(bytes(data[begin:end] * 2)),
            st.just(other[at:at + draw(st.sampled_from([1, 8, 40, 400]))]),
            st.sampled_from([b": ", b"- ", b"{", b"}", b"[", b"]", b'"', b"\n", b"<a>", b"</a>",
                             b"null", b"1e999", b"-1", b"&a ", b"*a", b"\xff", b"\xc2\x85"]),
        ))
    return bytes(data)


@pytest.mark.parametrize("target", targets.TARGETS)
def test_spoiled_seeds(target: str) -> None:
    @settings(deadline=None, max_examples=150)
    @given(spoiled(target))
    def check(data: bytes) -> None:
        targets.TARGETS[target](data)

    check()


#: Shorter than in an atheris run, so that the suite stays fast.
PART, TIMES = 5, 25_000
#: Seconds of the processor per 100 kB on a machine that others use too. What grows with the
#: square of the input takes far longer. (Alone, the limit is `driver.LIMIT`.)
PATIENCE = 4 * LIMIT


@pytest.mark.parametrize("target", targets.TARGETS)
def test_much_of_anything_takes_no_time(target: str) -> None:
    """Parts of the seeds, repeated up to 25 kB."""
    for path in targets.corpus(target):
        data = path.read_bytes()
        for part in range(PART):
            begin = len(data) * part // PART
            end = begin + 1 + len(data) // 20
            large = targets.amplified(data, begin, end, TIMES, numbered=bool(part % 2))
            start = time.process_time()
            targets.TARGETS[target](large)
            taken = time.process_time() - start
            assert taken < PATIENCE * TIMES / SIZE, (path.name, begin, end)


HEAD = """\
shype: 1
policy: {name: b, version: "1.0"}
coalitions: [a]
labels:
  host: {}
"""
HOST = "host: {dom0: host}\n"


def lines(form: str, number: int = 1500) -> str:
    """``form`` with each number."""
    return "".join(form.replace("#", f"{i:04}") for i in range(number))


def labelled(before: str, label: str, after: str = "", number: int = 1500) -> str:
    """A policy with that many labels."""
    return HEAD.replace("labels:", f"{before}labels:") + lines(label, number) + HOST + after


#: Each took seconds or worse once, or would if somebody were careless.
LARGE = {
    "unknown labels": labelled("", "  label-#: {}\n", "vms:\n" + lines("  v#: lebal-#x\n")),
    "unknown coalitions": labelled(
        "", "  label-#: {coalitions: [coel-#xx, caol-#yy]}\n",
    ).replace("[a]", f"[{lines('coal-#, ', 900)}a]"),
    "unknown keys": labelled("", "  label-#: {coalitoins#: []}\n"),
    "all of many categories": labelled(
        f"levels: {{order: [l], categories: [{lines('c#, ', 250)}c]}}\n",
        '  label-#: {level: "l {all}"}\n', number=500,
    ),
    "members of many walls": labelled(
        "walls:\n" + lines("  w#: [m1, m2, n#]\n"), "  label-#: {wall: [m1, m2]}\n"),
    "a member in many walls": labelled(
        "walls:\n" + lines("  w#: [m1, n#]\n"), "  label-#: {wall: [m1, x]}\n"),
    "patterns": HEAD + HOST + "resources:\n" + lines(
        '  - {disk: "/dev/a*b#*c", coalitions: [a]}\n', 900),
    "aliases": "a: [&x 1" + ", *x" * 20_000 + "]",
    "depth": "a: " + "[" * 50_000,
}


@pytest.mark.parametrize("name", LARGE)
def test_large_policies_take_no_time(name: str) -> None:
    data = LARGE[name].encode()
    start = time.process_time()
    text = reading.decode(data, "large.yaml")
    assert isinstance(text, str)
    loader.check_text(text, "large.yaml", targets.TODAY)
    assert time.process_time() - start < PATIENCE * max(len(data), SIZE // 2) / SIZE


@pytest.mark.parametrize("target", targets.TARGETS)
def test_memory_is_bounded(target: str) -> None:
    """A reader takes no more than some hundred times its input, whatever that is."""
    tracemalloc.start()
    try:
        for path in targets.corpus(target)[-2:]:
            data = path.read_bytes()
            targets.TARGETS[target](targets.amplified(data, 0, len(data) // 3, TIMES))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
