#!/usr/bin/env python3
"""Sends transactional calls that txn_diff.py does not send to real TiKV and to Armilla, and compares every answer.

    wider_diff.py --tools ../shared/peers --a PD_OF_TIKV --b PD_OF_ARMILLA [--seeds 1-40] [--steps 150] [--shrink]

A and B are placement drivers of clusters of one store each. `--tools` is the folder of diff.py. Each seed plays five runs,
each a function of the seed, made without looking at any answer:

- versions: reads of keys with many versions, at any time of their history: KvGet, KvBatchGet, KvScan with all its fields;
- locks: pages of KvScanLock over locks of every kind;
- wrong: transactional calls with a wrong context, and with keys outside the region;
- raw: raw calls with the same keys as the transactions, in the same region: neither sees the other;
- ranges: KvDeleteRange and UnsafeDestroyRange over transactional data, then reads and new transactions.

At the end of a run come MvccGetByKey of each key, KvScan and KvScanLock. A run has regions of its own, one with its keys and
a neighbour with those from 90 on; only in `raw` they are in the last region of the cluster.

What differs on purpose (docs/protocol.md says why) is left out, or made comparable as in txn_diff.py:

- a pessimistic lock is followed by a heartbeat: TiKV keeps a fresh one in memory, where ResolveLock does not see it;
- before a rollback a read raises max_ts to the transaction's start, which TiKV does not do by itself;
- Cleanup is not sent for async commits; stale reads, and replica reads at the largest timestamp, are not sent at all;
- of a lock, MvccGetByKey of TiKV shows only a part; its records may have a GC fence, which Armilla never writes;
- an API version other than the cluster's is sent only in the calls in which TiKV looks at it;
- a KvScan without a start key: Armilla begins at the region's boundary, TiKV knows only keys that are given;
- a KvScanLock that begins outside the region: TiKV finds nothing, Armilla refuses it;
- KvBatchGet of keys outside the region: TiKV answers each key, Armilla the request.

What ends TiKV's process is not sent: see README.md beside diff.py, and a KvScanLock whose end is below its start, an
UnsafeDestroyRange without a start or an end.

In `raw` no range of transactional data is deleted and no value is long: TiKV stores raw keys beside long values and would
delete, or find in a raw scan, what is the other API's. Armilla keeps them apart.

Ends with 0 if nothing differed, with 1 otherwise.
"""
import collections
import os
import random
import sys
import time

import compare

MAX = (1 << 64) - 1
OUTSIDE = 90  # The first key of the neighbouring region.
PARTS = ('versions', 'locks', 'wrong', 'raw', 'ranges')
CHECKED_VERSION = ('KvGet', 'KvBatchGet', 'KvScan', 'KvPrewrite', 'KvPessimisticLock', 'KvDeleteRange')
RANGES = ('KvDeleteRange', 'UnsafeDestroyRange')
PUT, DEL, LOCK, INSERT, PESSIMISTIC = 0, 1, 2, 4, 5
OPS = [PUT] * 6 + [DEL] * 2 + [LOCK] + [INSERT]


class Txn:
    """What a run knows of a transaction that it has begun."""

    def __init__(self, start, keys, kind, pessimistic):
        self.start, self.keys, self.kind, self.pessimistic = start, keys, kind, pessimistic
        self.primary, self.commit, self.is_over = keys[0], None, False


class Maker:
    """The requests of one run."""

    def __init__(self, diff, part, seed, steps):
        self.rng, self.part, self.steps = random.Random(f'{part}/{seed}'), part, steps
        self.K, self.T = diff.K, diff.T
        self.count = self.rng.choice([4, 8, 8, 40])
        self.clock, self.txns, self.out = 1, [], []
        self.wrongs = [name for name in diff.WRONG if name not in ('stale read', 'V1TTL')]

    # --- choices ---------------------------------------------------------------------------------------------------------

    def maybe(self, chance):
        return self.rng.random() < chance

    def now(self):
        self.clock += self.rng.choice([1, 1, 2, 3])
        return self.T(self.clock)

    def key(self):
        """A key: mostly one of the first, so that some have many versions."""
        return self.K(min(self.rng.randrange(self.count), self.rng.randrange(self.count)))

    def value(self):
        lengths = [0, 3, 200] if self.part == 'raw' else [0, 3, 200, 255, 256, 300, 2000]
        return b'%d' % self.clock + b'x' * self.rng.choice(lengths)

    def when(self):
        """A time to read at: now, later, somewhere in the history, or beside an event."""
        past = self.T(self.rng.randrange(1, self.clock + 1))
        events = [t for txn in self.txns[-20:] for t in (txn.start, txn.commit) if t]
        event = self.rng.choice(events) if events else past
        beside = self.T(max(1, event + self.rng.choice([-1, 0, 0, 1])))
        choices = [self.now(), self.T(self.clock), past, past, beside, beside, self.T(self.clock + 2), MAX]
        return self.rng.choices(choices, [4, 3, 4, 4, 4, 4, 1, 2])[0]

    def bound(self):
        """A boundary of a range: open, a key, just above a key, or where the region ends."""
        key = self.key()
        return self.rng.choices([b'', key, (key, b'\0'), self.K(OUTSIDE), self.K(self.count)], [2, 6, 2, 1, 2])[0]

    @staticmethod
    def place(bound):
        """Orders boundaries that are not open."""
        return (bound[0], 1) if isinstance(bound, tuple) else (bound, 0)

    def pick(self, most=4):
        keys = {self.key() for _ in range(self.rng.randrange(1, most + 1))}
        return self.rng.sample(sorted(keys), len(keys))

    def txn(self, kinds=None):
        found = [t for t in self.txns[-8:] if not kinds or t.kind in kinds]
        return self.rng.choice(found) if found else None

    def context(self):
        """What readers say of the locks that they have met."""
        said = {}
        if self.txns and self.maybe(.2):
            said['resolved_locks'] = [t.start for t in self.txns[-3:] if not t.commit] or [self.txns[-1].start]
        if self.maybe(.1):
            said['isolation_level'] = 1
        return said

    def ask(self, name, **fields):
        self.out.append((name, fields))

    # --- transactions ----------------------------------------------------------------------------------------------------

    def begin(self):
        kind = self.rng.choices(['2pc', 'async', '1pc'], [6, 3, 2])[0]
        txn = Txn(self.now(), self.pick(), kind, self.maybe(.1 if self.part == 'versions' else .3))
        self.txns.append(txn)
        return txn

    def lock(self, txn):
        txn.for_update = self.now()
        for key in txn.keys:
            self.ask('KvPessimisticLock', mutations=[dict(op=PESSIMISTIC, key=key)], primary_lock=txn.primary,
                     start_version=txn.start, lock_ttl=txn.ttl, for_update_ts=txn.for_update, wait_timeout=-1,
                     is_first_lock=key == txn.primary, min_commit_ts=self.T(txn.for_update + 1),
                     return_values=self.maybe(.3))
            self.ask('KvTxnHeartBeat', primary_lock=key, start_version=txn.start, advise_lock_ttl=txn.ttl + 1)

    def prewrite_of(self, txn, keys):
        """The fields of a prewrite."""
        mutations = []
        for key in keys:
            op = self.rng.choice(OPS)
            mutations.append(dict(op=op, key=key, value=self.value() if op in (PUT, INSERT) else b''))
        fields = dict(mutations=mutations, primary_lock=txn.primary, start_version=txn.start, lock_ttl=txn.ttl,
                      txn_size=self.rng.choice([0, len(keys), 70]), min_commit_ts=self.rng.choice([0, self.T(txn.start + 1)]))
        if txn.pessimistic:
            fields.update(for_update_ts=txn.for_update, pessimistic_actions=[1] * len(keys))
        if txn.kind == '1pc':
            fields['try_one_pc'] = True
        if txn.kind == 'async':
            fields['use_async_commit'] = True
            if txn.primary in keys:
                fields['secondaries'] = [key for key in txn.keys if key != txn.primary]
        return fields

    def write(self):
        """One transaction, as far as its client gets."""
        txn = self.begin()
        txn.ttl, txn.for_update = self.rng.choice([3, 20, 3000]), txn.start
        if txn.pessimistic:
            self.lock(txn)
            if self.maybe(.2):
                return
        self.ask('KvPrewrite', **self.prewrite_of(txn, txn.keys))
        fate = self.rng.choices(['commit', 'half', 'leave', 'undo'], [14, 2, 3, 2])[0]
        if txn.kind == '1pc' or fate == 'leave':
            return
        if fate == 'undo':
            self.undo(txn)
            return
        txn.commit, txn.is_over = self.now(), fate == 'commit'
        keys = txn.keys if txn.is_over else [txn.primary]
        self.ask('KvCommit', keys=keys, start_version=txn.start, commit_version=txn.commit)

    def raise_max_ts(self, txn):
        self.ask('KvGet', key=self.K(0), version=txn.start)

    def undo(self, txn):
        self.raise_max_ts(txn)
        self.ask('KvBatchRollback', keys=txn.keys, start_version=txn.start)
        txn.is_over = True

    def settle(self):
        """Somebody ends what a transaction has left."""
        left = [t for t in self.txns[-12:] if not t.is_over]
        if not left:
            return
        txn = self.rng.choice(left)
        txn.is_over = True
        if not txn.commit:
            self.raise_max_ts(txn)
        keys = self.rng.choice([[], txn.keys])
        self.ask('KvResolveLock', start_version=txn.start, commit_version=txn.commit or 0, keys=keys)
        if txn.pessimistic:
            self.ask('KVPessimisticRollback', keys=txn.keys, start_version=txn.start, for_update_ts=self.now())

    def status(self):
        txn = self.txn()
        if txn:
            self.ask('KvCheckTxnStatus', primary_key=txn.primary, lock_ts=txn.start, caller_start_ts=self.now(),
                     current_ts=self.T(self.clock + self.rng.choice([0, 30])), rollback_if_not_exist=self.maybe(.5))

    # --- reads -----------------------------------------------------------------------------------------------------------

    def read(self):
        what, when, context = self.rng.choice(['get', 'get', 'mget', 'scan', 'scan', 'scan']), self.when(), self.context()
        committed = [t for t in self.txns[-12:] if t.commit and not t.is_over and (when == MAX or t.commit <= when)]
        if committed and self.maybe(.5):
            context['committed_locks'] = [t.start for t in committed]
        if what == 'get':
            self.ask('KvGet', key=self.key(), version=when, need_commit_ts=self.maybe(.5), context=context)
        elif what == 'mget':
            keys = [self.key() for _ in range(self.rng.randrange(1, 9))]
            self.ask('KvBatchGet', keys=keys, version=when, need_commit_ts=self.maybe(.5), context=context)
        else:
            self.scan(when, context)

    def scan(self, when, context):
        reverse = self.maybe(.5)
        start, end = self.bound(), self.bound()
        if start == b'' or self.maybe(.6):
            start, end = (self.K(OUTSIDE), b'') if reverse else (self.K(0), self.rng.choice([b'', self.K(OUTSIDE)]))
        self.ask('KvScan', start_key=start, end_key=end, limit=self.rng.choice([0, 1, 2, 3, 5, 20, 1000]), version=when,
                 key_only=self.maybe(.3), reverse=reverse, sample_step=self.rng.choice([0] * 6 + [1, 2, 3]), context=context)

    def scan_lock(self):
        start, end = self.bound(), self.bound()
        if self.maybe(.4) or start == OUTSIDE:
            start, end = self.rng.choice([b'', self.K(0)]), b''
        if b'' not in (start, end) and self.place(end) < self.place(start):
            start, end = end, start
        self.ask('KvScanLock', start_key=start, end_key=end, limit=self.rng.choice([0, 1, 2, 3, 100]),
                 max_version=self.when())

    # --- the parts -------------------------------------------------------------------------------------------------------

    def versions(self):
        self.rng.choices([self.write, self.read, self.settle, self.status], [10, 12, 6, 1])[0]()

    def locks(self):
        self.rng.choices([self.write, self.scan_lock, self.settle, self.status, self.read], [8, 14, 3, 2, 1])[0]()

    def raw(self):
        a, b = sorted([self.key(), self.key()])
        what = self.rng.choices(['txn', 'read', 'settle', 'put', 'get', 'mget', 'delete', 'scan', 'range', 'cas'],
                                [8, 8, 3, 6, 6, 2, 3, 5, 1, 2])[0]
        if what == 'txn':
            self.write()
        elif what == 'read':
            self.read()
        elif what == 'settle':
            self.settle()
        elif what == 'put':
            self.ask('RawPut', key=a, value=self.value())
        elif what == 'get':
            self.ask('RawGet', key=a)
        elif what == 'mget':
            self.ask('RawBatchGet', keys=[a, b])
        elif what == 'delete':
            self.ask('RawDelete', key=a)
        elif what == 'range' and a < b:
            self.ask('RawDeleteRange', start_key=a, end_key=b)
        elif what == 'cas':
            self.ask('RawCompareAndSwap', key=a, value=self.value(), previous_not_exist=True)
        else:
            self.ask('RawScan', start_key=a, end_key=self.K(99), limit=100)

    def neighbours(self):
        """A committed and a locked key in the region beside the run's own."""
        for key in (OUTSIDE + 1, OUTSIDE + 1, OUTSIDE + 3):
            mutations, start = [dict(op=PUT, key=self.K(key), value=self.value())], self.now()
            route = dict(_route=self.K(key))
            self.ask('KvPrewrite', mutations=mutations, primary_lock=self.K(key), start_version=start, lock_ttl=20, **route)
            if key == OUTSIDE + 1:
                self.ask('KvCommit', keys=[self.K(key)], start_version=start, commit_version=self.now(), **route)

    def ranges(self):
        what = self.rng.choices(['txn', 'read', 'locks', 'settle', 'status', 'delete', 'destroy', 'old'],
                                [12, 12, 2, 2, 2, 2, 2, 2])[0]
        if what in ('delete', 'destroy'):
            a, b = sorted([self.key(), self.key()])
            ends = [b, self.K(b + 1), self.K(b + 1), (b, b'\0')]
            fields = dict(start_key=a, end_key=self.rng.choice([end for end in ends if end != a]))
            if what == 'delete':
                self.ask('KvDeleteRange', notify_only=self.maybe(.15), **fields)
            else:
                fields['end_key'] = self.rng.choice([fields['end_key']] * 4 + [self.K(OUTSIDE + 2)])
                self.ask('UnsafeDestroyRange', **fields)
        elif what == 'old':
            self.come_late()
        else:
            dict(txn=self.write, read=self.read, locks=self.scan_lock, settle=self.settle, status=self.status)[what]()

    def come_late(self):
        """A request of a transaction whose locks or records may have been deleted."""
        txn = self.txn()
        if not txn:
            return
        what = self.rng.choice(['commit', 'heartbeat', 'secondaries', 'rollback'])
        if what == 'commit' and txn.kind != '1pc':
            txn.commit = txn.commit or self.now()
            self.ask('KvCommit', keys=txn.keys, start_version=txn.start, commit_version=txn.commit)
        elif what == 'heartbeat':
            self.ask('KvTxnHeartBeat', primary_lock=txn.primary, start_version=txn.start, advise_lock_ttl=50)
        elif what == 'secondaries':
            self.ask('KvCheckSecondaryLocks', keys=txn.keys, start_version=txn.start)
        elif not txn.commit:
            self.undo(txn)

    def wrong(self):
        what = self.rng.choices(['wrong', 'write', 'settle'], [12, 4, 1])[0]
        if what != 'wrong':
            return self.write() if what == 'write' else self.settle()
        txn = self.txn() or self.begin()
        fresh = Txn(self.now(), self.pick(2), '2pc', False)
        fresh.ttl = 20
        if self.maybe(.25):
            fresh.keys[-1] = self.K(OUTSIDE)
            if self.maybe(.5):
                fresh.primary = fresh.keys[0]
        name, fields = self.rng.choice(self.calls(txn, fresh))
        how = self.rng.choice(['route', 'none'] + ['change'] * 4)
        changes = self.rng.sample(self.wrongs, self.rng.choice([1, 1, 1, 2])) if how == 'change' else []
        if 'replica read' in changes and MAX in (fields.get('version'), fields.get('max_version')):
            return None
        # At this level TiKV names a version of a key outside the region, instead of the error that it has at the other.
        if 'isolation' in changes and name in ('KvGet', 'KvBatchGet') and max(fresh.keys) >= OUTSIDE:
            return None
        if 'V2' in changes and name not in CHECKED_VERSION:
            return None
        if name == 'KvPessimisticLock' or name == 'KvPrewrite':
            self.txns.append(fresh)
        route = dict(_route=self.K(OUTSIDE)) if how == 'route' else {}
        self.ask(name, _wrong=changes, **route, **fields)
        if name == 'KvPessimisticLock':
            fresh.pessimistic = True
            for key in fresh.keys:
                self.ask('KvTxnHeartBeat', primary_lock=key, start_version=fresh.start, advise_lock_ttl=21,
                         **(dict(_route=key) if key >= OUTSIDE else {}))
        return None

    def calls(self, txn, fresh):
        """One request of each kind: those of reads, those about an earlier transaction, those of a new one."""
        keys, when, start = fresh.keys, self.when(), txn.start
        # TiKV may answer these for the first key; Armilla looks whether all keys are in the region before.
        alone = keys[-1:] if keys[-1] >= OUTSIDE else keys
        low, high = keys[-1], self.rng.choice([b'', self.K(OUTSIDE), self.K(OUTSIDE + 3), self.key()])
        reverse = self.maybe(.4)
        above = high if high == b'' or high >= low else b''
        made = [
            ('KvGet', dict(key=low, version=when)), ('KvBatchGet', dict(keys=keys, version=when)),
            ('KvScan', dict(start_key=high or self.K(OUTSIDE) if reverse else low, end_key=low if reverse else high,
                            limit=3, version=when, reverse=reverse)),
            ('KvPrewrite', self.prewrite_of(fresh, keys)),
            ('KvCommit', dict(keys=alone, start_version=start, commit_version=txn.commit or self.now())),
            ('KvPessimisticLock', dict(mutations=[dict(op=PESSIMISTIC, key=key) for key in alone], wait_timeout=-1,
                                       primary_lock=keys[0], start_version=fresh.start, for_update_ts=fresh.start,
                                       lock_ttl=20, is_first_lock=True)),
            ('KvCheckTxnStatus', dict(primary_key=low, lock_ts=start, caller_start_ts=self.now(),
                                      current_ts=self.T(self.clock), rollback_if_not_exist=self.maybe(.5))),
            ('KvResolveLock', dict(start_version=start, commit_version=txn.commit or self.now(), keys=[low])),
            ('KvResolveLock', dict(start_version=start, commit_version=txn.commit or self.now())),
            ('KvScanLock', dict(start_key=low if low < OUTSIDE else b'', end_key=above, max_version=when, limit=2)),
            ('KvTxnHeartBeat', dict(primary_lock=low, start_version=start, advise_lock_ttl=40)),
            ('KvDeleteRange', dict(start_key=low, end_key=self.K(OUTSIDE + 2))), ('MvccGetByKey', dict(key=low)),
            ('KvCheckSecondaryLocks', dict(keys=alone, start_version=start)),
            ('KVPessimisticRollback', dict(keys=keys, start_version=start, for_update_ts=self.now())),
        ]
        if not txn.commit:
            made.append(('KvBatchRollback', dict(keys=keys, start_version=fresh.start)))
            if txn.kind == '2pc':
                made.append(('KvCleanup', dict(key=low, start_version=start, current_ts=self.rng.choice([0, self.now()]))))
        return made

    def run(self):
        if self.part == 'ranges':
            self.neighbours()
        while len(self.out) < self.steps:
            getattr(self, self.part)()
        return self.out[:self.steps]


class Player:
    """Plays runs on both clusters, each under keys and times of its own."""

    def __init__(self, diff, sides):
        self.diff, self.sides, self.count = diff, sides, 0
        self.kinds, self.part, self.last = collections.Counter(), '', 0
        # A range that is deleted raises the region's version in Armilla, which the placement driver learns a little later.
        self.is_version_old = False
        for call in RANGES:
            name = call.removeprefix('Kv')
            diff.CALLS[call] = getattr(diff.kv, name + 'Request'), getattr(diff.kv, name + 'Response')

    def concrete(self, value):
        """A value of a run with the keys and times of the clusters."""
        if isinstance(value, tuple):
            return self.concrete(value[0]) + value[1]
        if isinstance(value, self.diff.K):
            return self.prefix + b'%02d' % value
        if isinstance(value, self.diff.T):
            return self.base + (value << 18) if value else 0
        if isinstance(value, list):
            return [self.concrete(v) for v in value]
        if isinstance(value, dict):
            return {k: self.concrete(v) for k, v in value.items()}
        return value

    def begin(self, run):
        """Gives a run times that are later than those of all earlier ones, keys, and regions."""
        times = [int(t) for _, fields in run for t in self.diff.of_type(self.diff.T, fields)]
        self.base = max(time.time_ns() // 100_000, self.last + 10)
        self.last = self.base + max(times, default=0) + 10
        self.base <<= 18
        # Raw keys are in the last region only if their first letter is later than all of those that are split.
        first = b'raw' if self.part == 'raw' else b'diff'
        self.prefix = b'%s/%d/%d/' % (first, time.time_ns(), os.getpid())
        if self.part != 'raw':
            for side in self.sides:
                self.split(side)
        for side in self.sides:
            side.routes = []

    def split(self, side):
        """Splits a region off for the run's keys, and one for those from OUTSIDE on."""
        diff, until = self.diff, time.time() + 60
        ends = [self.prefix, self.prefix + b'%02d' % OUTSIDE, self.prefix + b'~']
        for key in ends:
            while True:
                assert time.time() < until, f'{side.name} does not split'
                side.routes = []
                try:
                    context, address = side.route(key)
                except IndexError:  # The placement driver may not know the region for a moment.
                    time.sleep(.02)
                    continue
                if side.routes[-1][0] == diff.encode(key):
                    break
                request = diff.kv.SplitRegionRequest(context=context, split_keys=[key])
                side.unary(address, 'tikvpb.Tikv/SplitRegion', request, diff.kv.SplitRegionResponse)
                time.sleep(.01)
        self.learn(side)

    def learn(self, side):
        """Waits until the placement driver knows the present versions of the run's regions."""
        until = time.time() + 60
        side.routes = []
        for key in (self.prefix, self.prefix + b'%02d' % OUTSIDE):
            while True:
                assert time.time() < until, f'{side.name} has no route'
                try:
                    side.call('KvGet', self.diff.kv.GetRequest(key=key, version=1), key)
                    break
                except IndexError:
                    time.sleep(.02)

    def ask(self, side, name, fields):
        fields = dict(fields)
        changes, route = fields.pop('_wrong', None), self.concrete(fields.pop('_route', b''))
        request = self.diff.CALLS[name][0](**self.concrete(fields))
        if changes is None:
            return side.call(name, request, route or self.prefix)
        if self.is_version_old:
            self.learn(side)
        until = time.time() + 20
        while True:
            answer = side.call_wrong(name, request, route or self.prefix, changes)
            # That the leader is not ready yet is not about the context.
            later = () if isinstance(answer, dict) else ('max_timestamp_not_synced', 'server_is_busy', 'read_index_not_ready')
            if not any(answer.region_error.HasField(kind) for kind in later) or time.time() > until:
                return answer
            time.sleep(.02)

    def both(self, name, fields):
        """The answers of both sides, as plain data."""
        view = self.diff.View(self.prefix, self.base)
        answers = [view(self.ask(side, name, fields)) for side in self.sides]
        self.is_version_old = name in RANGES or (self.is_version_old and '_wrong' not in fields)
        for answer in answers:
            if name == 'MvccGetByKey':
                self.leave_out(answer.get('info', {}))
            if name == 'KvBatchGet' and any('abort' in pair.get('error', {}) for pair in answer.get('pairs', [])):
                answer['pairs'] = answer['error'] = 'abort'
        self.count += 1
        self.kinds[f'{name}: {self.kind(answers[0])}'] += 1
        return answers

    @staticmethod
    def leave_out(info):
        """Leaves out what only one of the two shows of a key."""
        lock = info.get('lock', {})
        for field in [field for field in lock if field not in ('type', 'start_ts', 'primary', 'short_value')]:
            del lock[field]
        for record in info.get('writes', []):
            record.pop('gc_fence', None)
            record.pop('has_gc_fence', None)

    def kind(self, answer):
        """Which kind of answer it is."""
        error = answer.get('region_error')
        if error is None:
            return self.diff.kind(answer)
        return 'region_error/' + ('+'.join(sorted(k for k in error if k != 'message')) or 'message')

    def endings(self, run):
        """The requests that show what is left."""
        K, T = self.diff.K, self.diff.T
        keys = sorted({int(key) for _, fields in run for key in self.diff.of_type(K, fields)})
        last = T(max([1, *(int(t) for _, fields in run for t in self.diff.of_type(T, fields))]) + 1)
        routes = [{}] if self.part == 'raw' else [{}, dict(_route=K(OUTSIDE))]
        for key in keys:
            yield 'MvccGetByKey', dict(key=K(key), **(routes[-1] if key >= OUTSIDE else {}))
        for route in routes:
            start, end = (K(OUTSIDE), b'') if route else (K(0), K(OUTSIDE))
            for fields in (dict(), dict(context=dict(isolation_level=1))):
                yield 'KvScan', dict(start_key=start, end_key=end, limit=1000, version=last, **fields, **route)
            yield 'KvScanLock', dict(start_key=start, end_key=end, max_version=last, **route)
        if self.part == 'raw':
            yield 'RawScan', dict(start_key=K(0), end_key=K(99), limit=1000)

    def play(self, run):
        """None, or (index, call, fields, answer of A, answer of B) where they first differ."""
        self.begin(run)
        for index, (name, fields) in enumerate([*run, *self.endings(run)]):
            a, b = self.both(name, fields)
            if a != b:
                return min(index, len(run)), name, fields, a, b
        return None


def main():
    parser = compare.arguments(__doc__, '1-40')
    parser.add_argument('--steps', type=int, default=150, help='requests of each of the five runs of a seed')
    parser.add_argument('--only', choices=PARTS, help='play only this run of each seed')
    parser.add_argument('--shrink', action='store_true')
    o, diff = compare.parse(parser)
    player = Player(diff, (diff.Side('A', o.a, True), diff.Side('B', o.b, True)))
    differing = set()
    for seed in o.seeds:
        for part in [o.only] if o.only else PARTS:
            player.part, run = part, Maker(diff, part, seed, o.steps).run()
            found = player.play(run)
            if found:
                differing.add(seed)
                print(f'seed {seed} differs in {part}')
                compare.report(diff, player, run, found, o.shrink)
    print('reached: ' + ', '.join(f'{kind} {count}' for kind, count in sorted(player.kinds.items())))
    print(f'{player.count} requests, {len(differing)} of {len(o.seeds)} seeds differ')
    return int(bool(differing))


if __name__ == '__main__':
    sys.exit(main())
