"""Fuzz one reader with atheris (`make fuzz`), and report what it cost and what it found.

    python -m tests.fuzz.driver TARGET [--seconds N] [--work DIRECTORY]

Every input goes to the target as it is; one in sixteen also with a part of it
repeated up to 100 kB, against what takes long only for much of it (in half of
these with a number in each repetition, for many names).  Inputs
that raise, hang or eat memory are left in DIRECTORY/TARGET/found: one that is
a defect becomes a seed in tests/fuzz/corpus, and the suite replays it from
then on.  Exit code: 0 nothing found, 1 something.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import time
import zlib
from importlib import import_module
from pathlib import Path

from shype.base import child
from tests.fuzz import targets

#: Bytes of an amplified input, and seconds that one may take (not instrumented).
SIZE = 100_000
LIMIT = 1.0
#: Megabytes that the fuzzing process may have. An empty one has about 100.
MEMORY = 1024
WORDS = Path(__file__).with_name("words.txt")


def main() -> int:
    """Run the child that fuzzes, then time its slowest inputs without instrumentation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=list(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = (options.work / options.target).resolve()
    if options.inside:
        return _fuzz(options.target, work, options.seconds)
    for name in ("corpus", "found", "slow"):
        (work / name).mkdir(parents=True, exist_ok=True)
    log = work / "log"
    log.unlink(missing_ok=True)
    child.run(
        [sys.executable, "-m", "tests.fuzz.driver", options.target, "--inside",
         "--seconds", str(options.seconds), "--work", str(options.work)],
        check=False, log=log, timeout=options.seconds + 300,
    )
    return _report(options.target, work, log.read_text(errors="replace"))


def _fuzz(target: str, work: Path, seconds: int) -> int:
    """In the child: libFuzzer never returns from this."""
    atheris = import_module("atheris")
    # Instrumented as it is imported, so it must not be there yet.
    for name in [n for n in sys.modules if n.partition(".")[0] == "shype" or n == targets.__name__]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["shype"]):
        check = import_module(targets.__name__).TARGETS[target]
    slowest = [0.0, 0.0]

    def once(data: bytes) -> None:
        number = zlib.crc32(data)
        inputs = [data]
        if number % 16 == 0 and len(data) > 1:
            begin, end = sorted((number // 16 % len(data), number // 4096 % len(data)))
            inputs.append(targets.amplified(
                data, begin, end + 1, SIZE, numbered=bool(number & 1 << 20)))
        for large, item in enumerate(inputs):
            start = time.process_time()
            check(item)
            taken = time.process_time() - start
            if taken > slowest[large]:
                slowest[large] = taken
                (work / "slow" / f"{'large' if large else 'small'}-{taken:09.4f}").write_bytes(item)

    atheris.Setup([
        sys.argv[0], str(work / "corpus"), str(targets.CORPUS / target),
        f"-max_total_time={seconds}", "-max_len=16384", "-timeout=60",
        # By the clock on the wall, which says little on a busy machine: `once` has its own.
        "-report_slow_units=60", f"-dict={WORDS}",
        f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={work / 'found'}/", "-print_final_stats=1",
    ], once)
    atheris.Fuzz()
    return 0


def _report(target: str, work: Path, log: str) -> int:
    """What the fuzzer said, and the slowest inputs timed alone."""
    def last(pattern: str) -> str:
        found = re.findall(pattern, log)
        return found[-1] if found else "?"

    found = sorted((work / "found").iterdir())
    check, worst = targets.TARGETS[target], {"small": (0.0, ""), "large": (0.0, "")}
    for path in sorted((work / "slow").iterdir())[-40:]:
        data, kind = path.read_bytes(), path.name.partition("-")[0]
        start = time.process_time()
        check(data)
        taken = time.process_time() - start
        worst[kind] = max(worst[kind], (taken, f"{path.name}, {len(data)} bytes"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{target}: {last(r'number_of_executed_units: *([0-9]+)')} inputs, "  # noqa: T201
          f"{last(r'average_exec_per_sec: *([0-9]+)')} a second, "
          f"coverage {last(r'cov: ([0-9]+)')} edges, "
          f"peak memory {last(r'peak_rss_mb: *([0-9]+)')} MB (instrumented), {peak} MB (not)")
    for kind, (taken, name) in worst.items():
        print(f"{target}: slowest {kind} input {taken:.3f} s without instrumentation ({name})")  # noqa: T201
    for path in found:
        print(f"{target}: FOUND {path}")  # noqa: T201
    if "Traceback" in log or found:
        print("\n".join(log.splitlines()[-60:]))  # noqa: T201
    return int(bool(found) or worst["large"][0] > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
