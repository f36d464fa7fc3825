"""PyPI tikv-client (the Rust client behind Python): transactions, optimistic and pessimistic, over several regions, and a bank
whose leader is killed meanwhile."""

import random
import time

from harness import ADDRS, REGIONS, check, done, kill_leader_of, restart, steadfast
from tikv_client import TransactionClient

checks = 0


def same(name, seen, expected):
    global checks
    checks += 1
    check(name, seen, expected)


def plain(border):
    """Decodes a border: groups of 8 bytes, each with a marker that says how many of them count."""
    out = b""
    for at in range(0, len(border), 9):
        group = border[at:at + 9]
        out += group[:8 - (255 - group[8])]
    return out


client = steadfast("connect", lambda: TransactionClient.connect(ADDRS))
STARTS = [plain(border) for border in REGIONS]
RNG = random.Random(1)


def begin(pessimistic):
    return client.begin(pessimistic=pessimistic)


def snapshot():
    return client.snapshot(client.current_timestamp(), pessimistic=False)


def refused(what, call):
    """The call must fail."""
    global checks
    checks += 1
    try:
        call()
    except Exception:
        return
    raise SystemExit(f"{what} was accepted")


# Every call, over all regions, in both modes.
model = {}
for pessimistic in (False, True):
    tag = b"pessimistic" if pessimistic else b"optimistic"
    keys = [start + b"txn/" + tag + b"/%d" % n for start in STARTS for n in range(4)]
    txn = begin(pessimistic)
    for key in keys:
        same("nothing at first", txn.get(key), None)
        txn.put(key, b"v" * RNG.choice([1, 255, 256, 3000]) + key)
    before = snapshot()
    txn.commit()
    same("an older snapshot", before.get(keys[0]), None)
    now = snapshot()
    model.update({key: now.get(key) for key in keys})
    same("all were written", all(model[key].endswith(key) for key in keys), True)
    same("batch_get", dict(now.batch_get(keys)), {key: model[key] for key in keys})

    txn = begin(pessimistic)
    same("get_for_update", txn.get_for_update(keys[1]), model[keys[1]])
    same("its own write", (txn.put(keys[1], b"mine"), txn.get(keys[1]))[1], b"mine")
    txn.delete(keys[2])
    same("its own delete", txn.get(keys[2]), None)
    txn.lock_keys([keys[3]])
    txn.insert(keys[0] + b"/new", b"inserted")
    same("nothing of it is seen before", snapshot().get(keys[1]), model[keys[1]])
    txn.commit()
    model.update({keys[1]: b"mine", keys[0] + b"/new": b"inserted"})
    del model[keys[2]]
    same("a delete is seen", snapshot().get(keys[2]), None)

    txn = begin(pessimistic)
    txn.put(keys[0], b"never")
    txn.rollback()
    same("a rollback leaves nothing", snapshot().get(keys[0]), model[keys[0]])

    txn = begin(pessimistic)
    refused("an insert of what exists", lambda: (txn.insert(keys[0], b"again"), txn.commit()))
    try:
        txn.rollback()
    except Exception:
        pass  # the failed commit has ended it

for start in STARTS:
    # The client's scan is one region's.
    expected = sorted((key, value) for key, value in model.items() if key.startswith(start + b"txn/"))
    found = snapshot().scan(start + b"txn/", end=start + b"txn0", limit=100)
    same("scan", [(bytes(key), bytes(value)) for key, value in found], expected)
    found = snapshot().scan_keys(start + b"txn/", end=start + b"txn0", limit=3)
    same("scan_keys", [bytes(key) for key in found], [key for key, _ in expected[:3]])

# Of two that read and write the same key, one commits.
one, other = begin(False), begin(False)
contended = STARTS[0] + b"txn/contended"
same("read", (one.get(contended), other.get(contended)), (None, None))
one.put(contended, b"one")
other.put(contended, b"other")
one.commit()
refused("a lost update", other.commit)
same("the first one won", snapshot().get(contended), b"one")

# A bank with accounts in all regions. Its leader is killed and comes back; no transfer is lost or made twice.
ACCOUNTS = [start + b"txn/account/%d" % n for start in STARTS for n in range(3)]
EACH = 1000
txn = begin(False)
for account in ACCOUNTS:
    txn.put(account, b"%d" % EACH)
steadfast("open the bank", txn.commit)


def transfer(pessimistic):
    source, target = RNG.sample(ACCOUNTS, 2)
    txn = None
    try:
        txn = begin(pessimistic)
        read = txn.get_for_update if pessimistic else txn.get
        has, gets = int(read(source)), int(read(target))
        txn.put(source, b"%d" % (has - 7))
        txn.put(target, b"%d" % (gets + 7))
        txn.commit()
        return 1
    except Exception:
        try:
            if txn:
                txn.rollback()
        except Exception:
            pass  # others end what it leaves
        return 0


def total():
    found = dict(snapshot().batch_get(ACCOUNTS))
    assert len(found) == len(ACCOUNTS), found
    return sum(int(value) for value in found.values())


transfers = 0
for moment in range(300):
    if moment == 100:
        kill_leader_of(REGIONS[0])
    if moment == 200:
        restart()
    transfers += transfer(moment % 2 == 0)
    if moment % 20 == 0:
        same("the money", steadfast("a snapshot", total), EACH * len(ACCOUNTS))
began = time.monotonic()
while transfers < 150:
    assert time.monotonic() - began < 60, f"only {transfers} transfers"
    transfers += transfer(False)
same("the money at the end", steadfast("a snapshot", total), EACH * len(ACCOUNTS))
print(f"{transfers} transfers", flush=True)
done(checks)
