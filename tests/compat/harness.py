"""Helpers of the scripts: the cluster's addresses, requests for faults, and retries.

The test (tests/compat.rs) starts a script with two arguments: the addresses of all nodes, and the first keys of all regions in
hex, both separated by commas. The script requests faults on its standard output (`@kill HEXKEY`, `@restart`) and waits for a
reply line on its standard input.
"""

import os
import sys
import time

ADDRS = sys.argv[1].split(",")
STARTS = [bytes.fromhex(text) for text in sys.argv[2].split(",")]
# The last region is a sentinel at the very end; clients' keys are before it.
REGIONS = STARTS[:-1] if len(STARTS) > 1 else STARTS


def ask(line):
    """Sends one command to the test and waits until it is carried out."""
    print(line, flush=True)
    answer = sys.stdin.readline().strip()
    assert answer == "ok", f"{line}: {answer!r}"


def kill_leader_of(key):
    """Kills the node that leads the region of `key` with SIGKILL."""
    ask("@kill " + key.hex())


def restart():
    """Restarts the killed node with its data and waits until the cluster is complete."""
    ask("@restart")


def steadfast(what, call, patience=60.0):
    """Calls until the call succeeds. Clients give up after a second or two of retries; an application would retry."""
    began, failures = time.monotonic(), 0
    while True:
        try:
            result = call()
            if failures:
                print(f"{what}: {failures} failures, {time.monotonic() - began:.2f} s", flush=True)
            return result
        except Exception as error:  # the clients' errors have no common base
            failures += 1
            assert time.monotonic() - began < patience, f"{what}: no success in {patience} s, the last error was {error!r}"
            time.sleep(0.05)


def spread(count, tag):
    """Returns `count` keys in every region, in order."""
    return sorted(start + b"compat/" + tag + b"/%04d" % n for start in REGIONS for n in range(count))


def check(name, seen, expected):
    """Compares a result with the model."""
    assert seen == expected, f"{name}: saw {seen!r}, expected {expected!r}"


def done(calls):
    """Ends the script successfully."""
    print(f"@done {calls} checks", flush=True)
    # Threads of the client's extension module still run while the interpreter shuts down, which has crashed it before.
    os._exit(0)
