"""What the scripts share: where the cluster is, how to ask for a leader's death, and patience.

The test (tests/compat.rs) starts a script with two arguments: the addresses of all nodes, and the first keys of all regions in
hex, both separated by commas. The script asks for faults on its standard output (`@kill HEXKEY`, `@restart`) and waits for an
answer line on its standard input.
"""

import os
import sys
import time

ADDRS = sys.argv[1].split(",")
STARTS = [bytes.fromhex(text) for text in sys.argv[2].split(",")]
# The last region is a sentinel at the very end; clients' keys live before it.
REGIONS = STARTS[:-1] if len(STARTS) > 1 else STARTS


def ask(line):
    """Sends one order to the test and waits until it is carried out."""
    print(line, flush=True)
    answer = sys.stdin.readline().strip()
    assert answer == "ok", f"{line}: {answer!r}"


def kill_leader_of(key):
    """SIGKILL for the node that leads the region of `key`."""
    ask("@kill " + key.hex())


def restart():
    """The killed node comes back with its data, and the cluster is whole again."""
    ask("@restart")


def steadfast(what, call, patience=60.0):
    """Calls until it succeeds. Clients give up after a second or two of retries; a person would try again."""
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
    """`count` keys in every region, in order."""
    return sorted(start + b"compat/" + tag + b"/%04d" % n for start in REGIONS for n in range(count))


def check(name, seen, expected):
    """One comparison with the model."""
    assert seen == expected, f"{name}: saw {seen!r}, expected {expected!r}"


def done(calls):
    """Ends the script well."""
    print(f"@done {calls} checks", flush=True)
    # Threads of the client's extension module still run while the interpreter takes itself down, which crashed it once.
    os._exit(0)
