"""Either Python client, named by ARMILLA_CLIENT, in a storm of splits, merges, moves and transfers.

Four threads write and read keys of their own. No call may fail: what the clients do not retry by themselves reaches an
application. In the end every key has its last value.
"""

import asyncio
import os
import threading
import time

from harness import ADDRS, REGIONS, check, done

SECONDS = 40
THREADS = 4


def connect():
    """Returns a client, and a function that scans with it, if it can."""
    if os.environ["ARMILLA_CLIENT"] == "tikv-client":
        from tikv_client import RawClient

        # The client runs its calls on the thread's event loop.
        asyncio.set_event_loop(asyncio.new_event_loop())
        # Its version of client-rust takes a region that has changed for an empty one when it scans (client-rust#455).
        return RawClient.connect(ADDRS), None
    import tikv

    client = tikv.RawClient(ADDRS, timeout=30.0)
    return client, lambda start, end: client.scan(start, end, limit=1000)


def value_of(result):
    return None if result is None else bytes(result)


def work(thread, model, failures):
    try:
        client, scan = connect()
        began, turn = time.monotonic(), 0
        while time.monotonic() - began < SECONDS:
            start = REGIONS[turn % len(REGIONS)]
            key = start + b"storm/%d/%03d" % (thread, turn % 100)
            value = b"%d" % turn
            client.put(key, value)
            model[key] = value
            check("get", value_of(client.get(key)), value)
            if scan and turn % 10 == 0:
                end = start + b"storm/%d0" % thread
                seen = {bytes(k): bytes(v) for k, v in scan(start + b"storm/%d/" % thread, end)}
                check("scan", seen, {k: v for k, v in model.items() if k.startswith(start + b"storm/%d/" % thread)})
            turn += 1
    except Exception as error:
        failures.append(f"thread {thread}: {error!r}")


models = [{} for _ in range(THREADS)]
failures = []
threads = [threading.Thread(target=work, args=(n, models[n], failures)) for n in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
client, _ = connect()
checks = 0
for model in models:
    for key, value in model.items():
        check("get in the end", value_of(client.get(key)), value)
        checks += 1
done(checks)
