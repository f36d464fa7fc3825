#!/usr/bin/env python3
"""Lets transactions wait for each other's locks in real TiKV and in Armilla, and compares who is answered what, and when.

    waits_diff.py --tools ../shared/peers --a PD_OF_TIKV --b PD_OF_ARMILLA [--seeds 1-20] [--rounds 12]

A run is a function of its seed: rounds over a few keys. In a round some transactions lock keys or prewrite them, others
ask for locks on the same keys and wait (with and without ForceLock, for one key or several, in circles), then a holder
commits, rolls back or is resolved, and then the next one, until nobody waits. After each event the answers that have
come within a pause are compared as a set: which requests were answered, and how. Every lock that was given is kept alive
by a heartbeat at the end of its event, because TiKV keeps fresh pessimistic locks in memory, where MvccGetByKey does not
see them. The versions that are left are compared after each round.

Ends with 0 if nothing differed, with 1 otherwise. Needs the Python packages of diff.py in the folder of the tools.
"""
import collections
import random
import sys
import time

import compare

PAUSE_S = 0.25
LONGEST_WAIT_S = 1.0


class Txn:
    """A transaction of a round, and what it holds by the answers, which are the same on both sides."""

    def __init__(self, number, start, primary):
        self.number, self.start, self.primary = number, start, primary
        self.for_update = start
        self.locked, self.prewritten, self.ended = [], [], False


class Run:
    """A seeded run on both sides. Requests of one event are under way at once; their answers are compared as sets."""

    def __init__(self, diff, sides, seed, after):
        """`after` is in the unit of `base`: no timestamp of the run is below it, so that what earlier runs have read
        at their timestamps does not move those of this one's commits."""
        self.diff, self.sides, self.rng = diff, sides, random.Random(f'waits/{seed}')
        self.prefix = b'waits/%d/%d/' % (time.time_ns(), seed)
        self.base = max(time.time_ns() // 100_000, after) << 18
        self.view = diff.View(self.prefix, self.base)
        self.clock, self.count, self.reached, self.log = 0, 0, collections.Counter(), []
        self.waiting = []  # (name, fields, transaction, future on A, future on B)

    def now(self):
        self.clock += self.rng.choice([1, 1, 2, 3])
        return self.diff.T(self.clock)

    # --- sending --------------------------------------------------------------------------------------------------

    def send(self, name, fields, txn=None):
        """Sends a request to both sides, without waiting for the answers."""
        diff, futures = self.diff, []
        for side in self.sides:
            request = diff.CALLS[name][0](**concrete(diff, fields, self.prefix, self.base))
            context, address = side.route(self.prefix)
            request.context.MergeFrom(context)
            call = side.channel(address).unary_unary('/tikvpb.Tikv/' + name, request_serializer=type(request).SerializeToString,
                                                     response_deserializer=diff.CALLS[name][1].FromString)
            futures.append(call.future(request, timeout=20))
        self.count += 1
        self.log.append(f'{name} {diff.brief(fields)}')
        self.waiting.append((name, fields, txn, *futures))

    def collect(self, pause_s):
        """Waits until both sides have given the same answers, or the pause is over. Returns what was answered."""
        until = time.time() + pause_s
        while True:
            done = [w for w in self.waiting if w[3].done() and w[4].done()]
            half = [w for w in self.waiting if w[3].done() != w[4].done()]
            if time.time() >= until and (not half or time.time() >= until + 0.5):
                break
            if len(done) == len(self.waiting):
                break
            time.sleep(0.005)
        self.waiting = [w for w in self.waiting if w not in done]
        out = []
        for name, fields, txn, one, other in done:
            out.append((name, fields, txn, self.answer(one), self.answer(other)))
        return out, half

    def answer(self, future):
        import grpc
        try:
            return self.view(future.result())
        except grpc.RpcError as error:
            return {'transport': error.code().name}

    def event(self, pause_s=PAUSE_S):
        """Compares the answers of an event. Returns those that locked something, or raises Differs."""
        answered, half = self.collect(pause_s)
        for name, fields, txn, a, b in answered:
            self.reached[f'{name}: {self.diff.kind(a)}'] += 1
            a, b = normal(name, a), normal(name, b)
            if not self.diff.same(name, a, b) and not is_newer_version(fields, a, b):
                raise Differs(name, fields, a, b)
        if half:
            name, fields = half[0][:2]
            sides = ['no answer yet' if not future.done() else self.answer(future) for future in half[0][3:5]]
            raise Differs(name, fields, *sides)
        for name, fields, txn, a, _ in answered:
            if name == 'KvPessimisticLock' and not a.get('errors'):
                self.note_locked(fields, txn, a)
        return answered

    def note_locked(self, fields, txn, answer):
        keys = [mutation['key'] for mutation in fields['mutations']]
        results = answer.get('results') or [{}]
        if any(result.get('type') == 'LockResultFailed' for result in results):
            return
        txn.locked += [key for key in keys if key not in txn.locked]
        later = [number(result['locked_with_conflict_ts']) for result in results if result.get('locked_with_conflict_ts')]
        txn.for_update = self.diff.T(max([int(txn.for_update), *later]))
        for key in keys:
            if fields.get('lock_only_if_exists') is not True:
                self.send('KvTxnHeartBeat', dict(primary_lock=key, start_version=txn.start, advise_lock_ttl=60_000), txn)

    # --- what transactions do -------------------------------------------------------------------------------------

    def lock(self, txn, keys, **more):
        K = self.diff.K
        fields = dict(mutations=[dict(op=self.diff.kv.Op.Value('PessimisticLock'), key=K(key)) for key in keys], primary_lock=K(txn.primary), start_version=txn.start,
                      lock_ttl=50_000, for_update_ts=txn.for_update, is_first_lock=not txn.locked, wait_timeout=-1,
                      min_commit_ts=self.diff.T(int(txn.for_update) + 1))
        fields.update(more)
        self.send('KvPessimisticLock', fields, txn)

    def prewrite(self, txn, keys, pessimistic, **more):
        K = self.diff.K
        op = self.rng.choice([0, 0, 1])
        mutations = [dict(op=op, key=K(key), **({'value': b'v%d' % txn.number} if op == 0 else {})) for key in keys]
        fields = dict(mutations=mutations, primary_lock=K(txn.primary), start_version=txn.start, lock_ttl=50_000, txn_size=len(keys))
        if pessimistic:
            fields.update(for_update_ts=txn.for_update, pessimistic_actions=[1] * len(keys))
        fields.update(more)
        self.send('KvPrewrite', fields, txn)
        txn.prewritten += keys

    def release(self, txn):
        """Ends a transaction that holds locks, in one of the ways in which its keys become free."""
        K, T, rng = self.diff.K, self.diff.T, self.rng
        held = sorted({int(key) for key in txn.locked + txn.prewritten})
        txn.ended = True
        if txn.prewritten:
            fate = rng.choice(['commit', 'commit', 'rollback', 'resolve', 'resolve to commit'])
        else:
            fate = rng.choice(['commit', 'commit', '1pc', 'unlock', 'unlock', 'rollback', 'resolve', 'status'])
        at = self.now()
        if fate in ('commit', '1pc', 'resolve to commit') and not txn.prewritten:
            # Times of later locks are above the first for_update_ts.
            self.prewrite(txn, held, True, **({'try_one_pc': True, 'min_commit_ts': at} if fate == '1pc' else {}))
            self.event()
            at = self.now()
        if fate == 'commit':
            self.send('KvCommit', dict(keys=[K(key) for key in held], start_version=txn.start, commit_version=at), txn)
        elif fate == 'rollback':
            self.send('KvGet', dict(key=K(99), version=txn.start, context={}), txn)
            self.event()
            self.send('KvBatchRollback', dict(keys=[K(key) for key in held], start_version=txn.start), txn)
        elif fate == 'unlock':
            self.send('KVPessimisticRollback', dict(keys=[K(key) for key in held], start_version=txn.start, for_update_ts=T(self.clock)), txn)
        elif fate in ('resolve', 'resolve to commit'):
            self.send('KvGet', dict(key=K(99), version=txn.start, context={}), txn)
            self.event()
            commit = at if fate == 'resolve to commit' else T(0)
            keys = rng.choice([[], [K(key) for key in held]])
            self.send('KvResolveLock', dict(start_version=txn.start, commit_version=commit, keys=keys), txn)
        elif fate == 'status':
            # Later than every lock lasts.
            self.clock += 70_000
            fields = dict(primary_key=K(txn.primary), lock_ts=txn.start, caller_start_ts=at, current_ts=T(self.clock), rollback_if_not_exist=True)
            self.send('KvCheckTxnStatus', fields, txn)
            self.event()
            rest = [K(key) for key in held if key != txn.primary]
            if rest:
                self.send('KVPessimisticRollback', dict(keys=rest, start_version=txn.start, for_update_ts=T(self.clock)), txn)
        self.log.append(f'  ({fate} of {txn.number})')
        self.event()

    def waits(self, txn, free):
        """Lets a transaction ask for keys that others have, and wait."""
        rng = self.rng
        force = rng.random() < .4
        keys = rng.sample(free, 1 if force or rng.random() < .7 else min(2, len(free)))
        txn.for_update = self.now()
        more = dict(wait_timeout=0, return_values=rng.random() < .4, check_existence=rng.random() < .3, wake_up_mode=1 if force else 0)
        self.lock(txn, keys, **more)

    def round(self, keys):
        rng, T = self.rng, self.diff.T
        made = []
        for number in range(rng.choice([2, 3, 3, 4])):
            primary = rng.randrange(keys)
            made.append(Txn(len(made), self.now(), primary))
        # Holders.
        taken = set()
        for txn in made:
            mine = [key for key in rng.sample(range(keys), rng.choice([0, 1, 1, 2])) if key not in taken]
            if not mine:
                continue
            taken.update(mine)
            txn.primary = mine[0]
            if rng.random() < .3 and len(mine) == 1:
                self.prewrite(txn, mine, False)
            else:
                txn.for_update = self.now()
                self.lock(txn, mine)
            self.event()
            self.event()
        # Waiters, one after the other; a circle is found when its last edge is made.
        for txn in rng.sample(made, len(made)):
            others = [key for key in sorted(taken) if key not in txn.locked + txn.prewritten]
            if others and not txn.prewritten and rng.random() < .8:
                self.waits(txn, others)
                self.event(0.05)
        # Holders end, those first that do not wait.
        for _ in range(2 * len(made)):
            busy = [waiting[2] for waiting in self.waiting]
            ready = [txn for txn in made if not txn.ended and txn not in busy and txn.locked + txn.prewritten]
            if not ready:
                break
            self.release(rng.choice(ready))
            self.event()
        self.event(LONGEST_WAIT_S + 0.7)
        self.event()
        for txn in made:
            if not txn.ended and txn.locked + txn.prewritten:
                self.release(txn)
        self.event(LONGEST_WAIT_S + 0.7)
        for key in range(keys):
            self.send('MvccGetByKey', dict(key=self.diff.K(key)))
        self.event()


def concrete(diff, value, prefix, base):
    if isinstance(value, diff.K):
        return prefix + b'%02d' % value
    if isinstance(value, diff.T):
        return base + (value << 18) if value else 0
    if isinstance(value, list):
        return [concrete(diff, one, prefix, base) for one in value]
    if isinstance(value, dict):
        return {name: concrete(diff, one, prefix, base) for name, one in value.items()}
    return value


def number(shown):
    """Returns the number of a timestamp as answers are shown."""
    return int(shown.lstrip('t').split('+')[0])


def normal(name, answer):
    """Returns an answer without what differs on purpose: of a lock TiKV says no more than this to MvccGetByKey, and to
    those who have waited in vain for several holders it shows the last one's lock as it was at first."""
    for error in answer.get('errors', []) if name == 'KvPessimisticLock' else []:
        if 'locked' in error:
            error['locked'] = {field: error['locked'].get(field) for field in ('key', 'primary_lock', 'lock_version')}
    lock = answer.get('info', {}).get('lock') if name == 'MvccGetByKey' else None
    if lock is None:
        return answer
    shown = {field: value for field, value in lock.items() if field in ('type', 'start_ts', 'primary', 'short_value')}
    return {**answer, 'info': {**answer['info'], 'lock': shown}}


def is_newer_version(fields, a, b):
    """Whether both answers are conflicts after a wait, of which Armilla's names a version that is newer than the request
    instead of the last transaction that was waited for: the version is in the way in any case."""
    a, b = [answer.get('errors', [{}])[0].get('conflict', {}) for answer in (a, b)]
    if not a.get('reason') == b.get('reason') == 'PessimisticRetry' or not b.get('conflict_commit_ts'):
        return False
    return number(b['conflict_commit_ts']) > int(fields['for_update_ts'])


class Differs(Exception):
    pass


def main():
    parser = compare.arguments(__doc__, '1-20')
    parser.add_argument('--rounds', type=int, default=12)
    parser.add_argument('--keys', type=int, default=3)
    o, diff = compare.parse(parser)
    sides = [diff.Side('A', o.a, True), diff.Side('B', o.b, True)]
    count, differing, reached, after = 0, 0, collections.Counter(), 0
    for seed in o.seeds:
        run = Run(diff, sides, seed, after)
        try:
            for _ in range(o.rounds):
                run.log.append('round')
                run.round(o.keys)
        except Differs as found:
            differing += 1
            name, fields, a, b = found.args
            print(f'seed {seed} differs: {name} {diff.brief(fields)}\n  A: {diff.brief(a)}\n  B: {diff.brief(b)}')
            last_round = len(run.log) - 1 - run.log[::-1].index('round')
            print('  its round: ' + '\n    '.join(run.log[last_round:]))
            # What still waits ends before the next run begins.
            for waiting in run.waiting:
                for future in waiting[3:5]:
                    future.exception(timeout=10)
        count += run.count
        after = (run.base >> 18) + run.clock + 10
        reached += run.reached
    print('reached: ' + ', '.join(f'{kind} {number}' for kind, number in sorted(reached.items())))
    print(f'{count} requests, {differing} of {len(o.seeds)} seeds differ')
    return int(differing > 0)


if __name__ == '__main__':
    sys.exit(main())
