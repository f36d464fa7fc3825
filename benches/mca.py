#!/usr/bin/env python3
"""Predicts the cycles per byte of every ARM kernel and of its scalar reference with llvm-mca. No kernel runs.

    cargo arm setup --mca && python3 benches/mca.py [--loops] [CPU ...]          (neoverse-n1 neoverse-v2 neoverse-v3)

The crate `arch` is compiled once for aarch64, as for the server: no -Ctarget-cpu, and kernels with their own target features.
The innermost loops of each function are cut out of the finished assembly (markers in the source would let instructions move
out), and llvm-mca predicts 1000 iterations of each on each processor. The printed line is the loop that reads the most bytes per
iteration, which is the one that long inputs run; --loops prints all of them. A loop that loads nothing by itself is skipped.

A row without its own form shows the form that the tier falls back to: neon's `crc32c` shows crc-fast's loop.

The tool does not model caches, branch predictors, or the real number of iterations, and its model of a processor may be inexact.
Absolute numbers are within a factor of two at best; ratios of two loops on one processor are better. Uses the tools of
`cargo arm setup --mca` (~/.cache/armilla/arm64, or ARMILLA_ARM64_PREFIX).
"""
import os
import pathlib
import re
import subprocess
import sys

KERNELS = [
    "crc32c", "encode", "decode", "common_prefix", "count", "compare_i64", "compare_f64", "sum_i64", "sum_f64", "min_i64",
    "max_i64", "min_f64", "max_f64",
]
TIERS = [("neon", "aarch64::neon"), ("portable", "portable"), ("scalar", "scalar::")]
WIDTH = {"x": 8, "w": 4, "q": 16, "d": 8, "s": 4, "h": 2, "b": 1}
ROOT = pathlib.Path(__file__).resolve().parent.parent
PREFIX = pathlib.Path(
    os.environ.get("ARMILLA_ARM64_PREFIX")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "armilla" / "arm64"
)


def assembly():
    """The crate's assembly, names demangled enough to be found."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "mca"
    env = dict(
        os.environ,
        RUSTC=str(PREFIX / "bin/rustc"),
        CARGO_TARGET_DIR=str(target),
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="aarch64-linux-gnu-gcc",
    )
    subprocess.run(
        ["cargo", "rustc", "--quiet", "-p", "armilla-arch", "--lib", "--release", "--target", "aarch64-unknown-linux-gnu",
         "--", "--emit", "asm", "-Ccodegen-units=1", "-Cdebuginfo=0"],
        cwd=ROOT, env=env, check=True,
    )
    found = list(target.glob("aarch64-unknown-linux-gnu/release/deps/armilla_arch-*.s"))
    return max(found, key=lambda path: path.stat().st_mtime).read_text()


def functions(text):
    """Every function of the crate: (path, lines)."""
    for match in re.finditer(r"^(_ZN\w+|_R\w+):\n(.*?)^\.Lfunc_end", text, re.S | re.M):
        parts, rest = [], re.sub(r"^_ZN", "", match.group(1))
        while piece := re.match(r"(\d+)", rest):
            size = int(piece.group(1))
            parts.append(rest[piece.end():piece.end() + size])
            rest = rest[piece.end() + size:]
        yield "::".join(parts), match.group(2).splitlines()


def loops(lines):
    """The innermost loops: lists of instructions."""
    skip = re.compile(r"\s*\.(cfi|loc|file|p2align)|\s*//")
    lines = [line for line in lines if not skip.match(line)]
    labels = {line[:-1]: at for at, line in enumerate(lines) if re.match(r"\.L\w+:$", line)}
    ranges = []
    for at, line in enumerate(lines):
        branch = re.match(r"\s+(?:b\.?\w*|cbn?z|tbn?z)\s+(?:.*\s)?(\.L\w+)$", line)
        if branch and labels.get(branch.group(1), at) < at:
            ranges.append((labels[branch.group(1)] + 1, at + 1))
    inner = [r for r in ranges if not any(o != r and r[0] <= o[0] and o[1] <= r[1] for o in ranges)]
    return [[line for line in lines[start:end] if not line.endswith(":")] for start, end in inner]


def loaded(body):
    """Bytes that one iteration reads."""
    total = 0
    for line in body:
        load = re.match(r"\s+(ldu?r|ldu?r[bh]|ldu?rs[bhw]|ldn?p)\s+([xwqdshb])\d+", line)
        if load:
            small = {"b": 1, "h": 2}.get(load[1][-1])
            total += small or WIDTH[load[2]] * (2 if load[1] in ("ldp", "ldnp") else 1)
    return total


def cycles(body, cpu):
    report = subprocess.run(
        [PREFIX / "bin/llvm-mca", "-mtriple=aarch64-unknown-linux-gnu", f"-mcpu={cpu}", "-iterations=1000", "-"],
        input="\n".join(body) + "\n", capture_output=True, text=True, check=True,
    ).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report).group(1)) / 1000


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--loops"]
    if any(argument.startswith("-") for argument in arguments):
        sys.exit(__doc__)
    cpus = arguments or ["neoverse-n1", "neoverse-v2", "neoverse-v3"]
    if not (PREFIX / "bin/llvm-mca").exists():
        sys.exit(f"no llvm-mca below {PREFIX}: run `cargo arm setup --mca`")
    known = list(functions(assembly()))
    print("| kernel | form | bytes an iteration | " + " | ".join(f"{cpu}, cycles a byte" for cpu in cpus) + " |")
    print("| --- | --- | --- |" + " --- |" * len(cpus))
    for kernel in KERNELS:
        for tier, place in TIERS:
            bodies = [
                body
                for path, lines in known
                if place in path and re.search(rf"::{kernel}(::|$)", path)
                for body in loops(lines)
                if loaded(body)
            ]
            bodies.sort(key=loaded, reverse=True)
            for body in bodies if "--loops" in sys.argv else bodies[:1]:
                size = loaded(body)
                rates = " | ".join(f"{cycles(body, cpu) / size:.3f}" for cpu in cpus)
                print(f"| `{kernel}` | {tier} | {size} | {rates} |")


if __name__ == "__main__":
    main()
