"""PyPI tikv-client (the Rust client behind Python): compares every raw call, sync and async, with a dict as the model."""

import asyncio

from harness import ADDRS, REGIONS, check, done, kill_leader_of, restart, spread, steadfast
from tikv_client import RawClient
from tikv_client.asynchronous import RawClient as AsyncRawClient

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
client = steadfast("connect", lambda: RawClient.connect(ADDRS))
checks = 0


def same(name, seen, expected):
    global checks
    checks += 1
    check(name, seen, expected)


def pairs(result):
    return [(bytes(key), bytes(value)) for key, value in result]


# One key in every column family: the column families are separate.
for start in REGIONS:
    key = start + b"compat/one"
    for cf in ("default", "lock", "write"):
        client.put(key, cf.encode(), cf)
    for cf in ("default", "lock", "write"):
        same("get " + cf, client.get(key, cf), cf.encode())
    client.delete(key, "lock")
    same("deleted in lock", client.get(key, "lock"), None)
    same("kept in write", client.get(key, "write"), b"write")
    same("default is the default", client.get(key), b"default")
    client.put(key, b"")
    same("an empty value is a value", client.get(key), b"")
    for cf in ("default", "lock", "write"):
        client.delete(key, cf)
        same("gone from " + cf, client.get(key, cf), None)
try:
    client.put(b"compat/cf", b"v", "attic")
    raise SystemExit("an unknown column family was accepted")
except Exception as error:
    assert not isinstance(error, SystemExit), error

# Batches over all regions.
model = {key: b"v" + key for key in spread(25, b"batch")}
client.batch_put(model)
same("batch_get", dict(pairs(client.batch_get(list(model)))), model)
absent = [key + b"/absent" for key in model]
same("batch_get leaves out what is absent", pairs(client.batch_get(absent)), [])
gone = sorted(model)[::3]
client.batch_delete(gone)
for key in gone:
    del model[key]
same("batch_delete", dict(pairs(client.batch_get(sorted(model) + gone))), model)

# Scans: within each region, and across boundaries.
for start in REGIONS:
    low, high = start + b"compat/batch/", start + b"compat/batch0"
    inside = sorted((key, value) for key, value in model.items() if low <= key < high)
    same("scan", pairs(client.scan(low, high, 1000)), inside)
    same("scan with a limit", pairs(client.scan(low, high, 7)), inside[:7])
    same("scan_keys", [bytes(key) for key in client.scan_keys(low, high, 1000)], [key for key, _ in inside])
    first, last = inside[0][0], inside[-1][0]
    same("scan, end included", pairs(client.scan(first, last, 1000, include_end=True)), inside)
    same("scan, end excluded", pairs(client.scan(first, last, 1000)), inside[:-1])
    same("scan, start excluded", pairs(client.scan(first, high, 1000, include_start=False)), inside[1:])
everything = sorted(model.items())
same("scan over all regions", [p for p in pairs(client.scan(everything[0][0], everything[-1][0] + b"\0", 10000)) if p[0] in model], everything)

# Delete a range that crosses boundaries.
low, high = everything[5][0], everything[-5][0]
client.delete_range(low, high)
model = {key: value for key, value in model.items() if not low <= key < high}
same("delete_range", dict(pairs(client.batch_get([key for key, _ in everything]))), model)

# The leader of a region is killed between and during the calls.
hot = spread(40, b"failover")
model = {}
for n, key in enumerate(hot[: len(hot) // 2]):
    client.put(key, b"before")
    model[key] = b"before"
kill_leader_of(hot[0])
for key in hot:
    value = b"after" + key
    steadfast("put after the leader died", lambda: client.put(key, value))
    model[key] = value
same("get after the leader died", steadfast("get", lambda: client.get(hot[0])), model[hot[0]])
same("batch_get after the leader died", dict(pairs(steadfast("batch_get", lambda: client.batch_get(hot)))), model)
restart()
same("batch_get after the restart", dict(pairs(steadfast("batch_get", lambda: client.batch_get(hot)))), model)


# The asynchronous flavour, many calls at once.
async def concurrent():
    other = await AsyncRawClient.connect(ADDRS)
    keys = spread(30, b"async")
    await asyncio.gather(*(other.put(key, b"a" + key) for key in keys))
    values = await asyncio.gather(*(other.get(key) for key in keys))
    same("async get", [bytes(value) for value in values], [b"a" + key for key in keys])
    same("async batch_get", dict(pairs(await other.batch_get(keys))), {key: b"a" + key for key in keys})
    await other.batch_put({key: b"b" for key in keys})
    found = pairs(await other.scan(keys[0], keys[29] + b"\0", 100))
    same("async scan", found, [(key, b"b") for key in keys[:30]])
    same("async scan_keys", [bytes(k) for k in await other.scan_keys(keys[0], keys[29] + b"\0", 100)], keys[:30])
    await other.batch_delete(keys[1:])
    await other.delete(keys[0])
    same("async deletes", pairs(await other.batch_get(keys)), [])
    await other.put(keys[0], b"x")
    await other.delete_range(keys[0], keys[0] + b"\0")
    same("async delete_range", await other.get(keys[0]), None)


loop.run_until_complete(concurrent())
done(checks)
