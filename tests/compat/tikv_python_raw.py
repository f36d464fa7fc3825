"""PyPI tikv-python (pure Python over the C gRPC stack, an independent implementation): tests every raw call."""

import asyncio
import threading
import time

import tikv
from harness import ADDRS, REGIONS, check, done, kill_leader_of, restart, spread, steadfast

checks = 0


def same(name, seen, expected):
    global checks
    checks += 1
    check(name, seen, expected)


def crc64_xz(data):
    """The checksum's definition, bit by bit."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xC96C5795D7870F42 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFFFFFFFFFF


def refused(name, error_type, call):
    global checks
    checks += 1
    try:
        call()
    except error_type:
        return
    raise AssertionError(f"{name}: was not refused")


with tikv.RawClient(ADDRS, timeout=30.0) as client, tikv.RawClient(ADDRS, timeout=30.0, atomic=True) as atomic:
    client.delete_range(b"")

    # One key.
    for start in REGIONS:
        key = start + b"one"
        same("absent", client.get(key), None)
        client.put(key, b"1")
        same("get", client.get(key), b"1")
        client.put(key, b"")
        same("an empty value is a value", client.get(key), b"")
        client.delete(key)
        same("deleted", client.get(key), None)
        client.delete(key)

    # Time to live.
    key = REGIONS[-1] + b"ttl"
    client.put(key, b"v", ttl=1000)
    left = client.ttl(key)
    assert left is not None and 900 < left <= 1000, left
    client.put(key, b"v")
    same("a put without a ttl clears it", client.ttl(key), None)
    client.put(key, b"v", ttl=1)
    began = time.monotonic()
    while client.get(key) is not None:
        assert time.monotonic() - began < 60, "a key with a ttl of 1 s does not expire"
        time.sleep(0.05)
    refused("the ttl of an expired key", KeyError, lambda: client.ttl(key))
    client.put_many({start + b"ttl": b"v" for start in REGIONS}, ttl=500)
    for start in REGIONS:
        assert 400 < client.ttl(start + b"ttl") <= 500
    client.delete_many([start + b"ttl" for start in REGIONS])
    refused("the ttl of an absent key", KeyError, lambda: client.ttl(REGIONS[0] + b"ttl"))

    # Many keys over all regions, more than one page of 512 in one of them.
    model = {key: b"value of " + key for key in spread(30, b"many")}
    model |= {REGIONS[-1] + b"page/%05d" % n: b"%d" % n for n in range(1300)}
    client.put_many(model)
    same("get_many", client.get_many(model), model)
    same("get_many leaves out what is absent", client.get_many([b"no such key", b"another"]), {})
    ordered = sorted(model.items())
    same("scan", list(client.scan()), ordered)
    same("scan in reverse", list(client.scan(reverse=True)), ordered[::-1])
    same("scan_keys", list(client.scan_keys()), [key for key, _ in ordered])
    same("scan_keys in reverse", list(client.scan_keys(reverse=True)), [key for key, _ in ordered][::-1])
    same("scan with a limit", list(client.scan(limit=17)), ordered[:17])
    same("scan in reverse with a limit", list(client.scan(limit=17, reverse=True)), ordered[::-1][:17])
    same("scan nothing", list(client.scan(limit=0)), [])
    for at in range(0, len(ordered), 97):
        low, high = ordered[at][0], ordered[min(at + 200, len(ordered) - 1)][0]
        inside = [pair for pair in ordered if low <= pair[0] < high]
        same("scan of a range", list(client.scan(low, high)), inside)
        same("scan of a range in reverse", list(client.scan(low, high, reverse=True)), inside[::-1])
    page = REGIONS[-1] + b"page/"
    same("scan of a prefix", list(client.scan(prefix=page)), [p for p in ordered if p[0].startswith(page)])
    same("scan of an empty range", list(client.scan(b"b", b"a")), [])

    # The checksum, against its definition.
    inside = [pair for pair in ordered if not pair[0].startswith(page)]
    inside += [pair for pair in ordered if pair[0].startswith(page)][:50]
    low, high = ordered[0][0], sorted(inside)[-1][0] + b"\0"
    inside = [pair for pair in ordered if low <= pair[0] < high]
    expected = 0
    for key, value in inside:
        expected ^= crc64_xz(key + value)
    size = sum(len(key) + len(value) for key, value in inside)
    same("checksum", client.checksum(low, high), tikv.Checksum(expected, len(inside), size))
    same("checksum of nothing", client.checksum(b"~no", b"~such"), tikv.Checksum(0, 0, 0))

    # Deletes.
    gone = sorted(model)[::4]
    client.delete_many(gone)
    for key in gone:
        del model[key]
    same("delete_many", list(client.scan()), sorted(model.items()))
    client.delete_range(prefix=page + b"00")
    model = {key: value for key, value in model.items() if not key.startswith(page + b"00")}
    same("delete_range of a prefix", list(client.scan()), sorted(model.items()))
    ordered = sorted(model)
    low, high = ordered[len(ordered) // 4], ordered[len(ordered) * 3 // 4]
    client.delete_range(low, high)
    model = {key: value for key, value in model.items() if not low <= key < high}
    same("delete_range across regions", list(client.scan()), sorted(model.items()))

    # Compare and swap.
    for start in REGIONS:
        key = start + b"swap"
        same("swap finds nothing", atomic.compare_and_swap(key, b"x", b"y"), (False, None))
        same("swap from nothing", atomic.compare_and_swap(key, None, b"1"), (True, None))
        same("swap only once", atomic.compare_and_swap(key, None, b"2"), (False, b"1"))
        same("swap", atomic.compare_and_swap(key, b"1", b"2"), (True, b"1"))
        same("swap of another value", atomic.compare_and_swap(key, b"1", b"3"), (False, b"2"))
        same("get after swaps", atomic.get(key), b"2")
        same("swap with a ttl", atomic.compare_and_swap(key, b"2", b"4", ttl=700), (True, b"2"))
        assert 600 < atomic.ttl(key) <= 700
        atomic.put(key, b"")
        same("swap from an empty value", atomic.compare_and_swap(key, b"", b"5"), (True, b""))
        atomic.delete(key)
    atomic.put_many({start + b"swap": b"z" for start in REGIONS})
    atomic.delete_many([start + b"swap" for start in REGIONS])
    same("atomic batches", client.get_many([start + b"swap" for start in REGIONS]), {})

    # A counter that several clients move by swaps.
    counter = REGIONS[len(REGIONS) // 2] + b"counter"
    atomic.put(counter, b"0")

    def count(times):
        for _ in range(times):
            while True:
                now = atomic.get(counter)
                if atomic.compare_and_swap(counter, now, b"%d" % (int(now) + 1)).swapped:
                    break

    threads = [threading.Thread(target=count, args=(25,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same("a counter moved by swaps", client.get(counter), b"100")

    # Too large.
    refused("a key that is too long", tikv.TiKVError, lambda: client.put(b"k" * 9000, b"v"))
    refused("a value that is too long", tikv.TiKVError, lambda: client.put(b"k", b"v" * (9 << 20)))
    client.put(b"k", b"v" * (5 << 20))
    same("a large value", len(client.get(b"k")), 5 << 20)
    client.delete(b"k")

    # The leader of a region is killed while writes go on.
    model = {}
    keys = spread(40, b"failover")
    for key in keys[: len(keys) // 2]:
        client.put(key, b"before")
        model[key] = b"before"
    kill_leader_of(keys[0])
    for key in keys:
        value = b"after " + key
        steadfast("put after the leader died", lambda: client.put(key, value))
        model[key] = value
    same("get_many after the leader died", steadfast("get_many", lambda: client.get_many(keys)), model)
    low, high = keys[0], keys[-1] + b"\0"
    seen = steadfast("scan", lambda: [pair for pair in client.scan(low, high) if b"failover" in pair[0]])
    same("scan after the leader died", seen, sorted(model.items()))
    swap = keys[1] + b"/swap"
    steadfast("delete", lambda: atomic.delete(swap))

    def swap_until_known():
        while True:
            try:
                return atomic.compare_and_swap(swap, None, b"1")
            except tikv.UndeterminedError:
                if atomic.get(swap) == b"1":
                    return (True, None)

    same("swap after the leader died", tuple(steadfast("swap", swap_until_known)), (True, None))
    restart()
    same("get_many after the restart", steadfast("get_many", lambda: client.get_many(keys)), model)


# The asynchronous flavour, many calls at once.
async def concurrent():
    async with tikv.AsyncRawClient(ADDRS, timeout=30.0) as other:
        keys = spread(40, b"async")
        await asyncio.gather(*(other.put(key, b"a" + key) for key in keys))
        values = await asyncio.gather(*(other.get(key) for key in keys))
        same("async get", values, [b"a" + key for key in keys])
        same("async get_many", await other.get_many(keys), {key: b"a" + key for key in keys})
        found = [pair async for pair in other.scan(keys[0], keys[-1] + b"\0") if b"/async/" in pair[0]]
        same("async scan", found, [(key, b"a" + key) for key in keys])
        await other.delete_many(keys)
        same("async delete_many", await other.get_many(keys), {})


asyncio.run(concurrent())
done(checks)
