#!/usr/bin/env python3
"""Sends the same transactional requests to real TiKV and to Armilla, and compares every answer and every version left.

    txn_diff.py --tools ../shared/peers --a PD_OF_TIKV --b PD_OF_ARMILLA [--seeds 1-40] [--steps 400] [--keys 8] [--shrink]

The requests are those of diff.py in the folder of the tools: clients that die, repeat, come late and are resolved by
others. Where Armilla differs from TiKV on purpose (docs/protocol.md says why), a request is changed so that both must
answer the same, or a request is added that brings both into the same state:

- a pessimistic lock is followed by a heartbeat: TiKV keeps a fresh one in memory, where ResolveLock does not see it;
- a prewrite with keys that were not locked says that it is a repeated one: TiKV then checks what Armilla always checks;
- a prewrite never leaves its checks out;
- before a rollback a read raises max_ts to the transaction's start, which TiKV does not do by itself;
- Cleanup is not sent for async commits.

Ends with 0 if nothing differed, with 1 otherwise.
"""
import random
import sys

import compare


def changed(run, diff):
    """Returns the requests of a run, and those that make the two comparable."""
    K, T = diff.K, diff.T
    out, asynchronous = [], set()
    for name, fields in run:
        fields = dict(fields)
        if name == 'KvPrewrite':
            fields['skip_constraint_check'] = False
            if 0 in fields.get('pessimistic_actions', []):
                fields['context'] = dict(is_retry_request=True)
            if fields.get('use_async_commit') or fields.get('try_one_pc'):
                asynchronous.add(int(fields['start_version']))
        if name == 'KvCleanup' and int(fields['start_version']) in asynchronous:
            continue
        starts = []
        if name == 'KvBatchRollback':
            starts = [fields['start_version']]
        if name == 'KvResolveLock':
            fates = [(info['txn'], info['status']) for info in fields.get('txn_infos', [])]
            fates = fates or [(fields.get('start_version', 0), fields.get('commit_version', 0))]
            starts = [start for start, commit in fates if start and not commit]
        out += [('KvGet', dict(key=K(0), version=start, context={})) for start in starts]
        out.append((name, fields))
        if name == 'KvPessimisticLock':
            for mutation in fields['mutations']:
                out.append(('KvTxnHeartBeat', dict(primary_lock=mutation['key'], start_version=fields['start_version'],
                                                   advise_lock_ttl=fields['lock_ttl'] + 1)))
    return out


def on_purpose(_index, name, _fields, a, b):
    """An async or one-phase commit over a lock that was forced above the request's for_update_ts: Armilla commits above the lock."""
    times = ('min_commit_ts', 'one_pc_commit_ts')
    if name != 'KvPrewrite' or any(field in answer for field in ('errors', 'region_error') for answer in (a, b)):
        return False
    later = all(field in a and field in b for field in times if field in a or field in b)
    return later and {k: v for k, v in a.items() if k not in times} == {k: v for k, v in b.items() if k not in times}


def main():
    parser = compare.arguments(__doc__, '1-40')
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--keys', type=int, default=8)
    parser.add_argument('--mvcc', choices=['exact', 'committed'], default='exact')
    parser.add_argument('--shrink', action='store_true')
    o, diff = compare.parse(parser)

    class Player(diff.Player):
        def versions(self, view, answer):
            info = super().versions(view, answer)
            # Of a lock TiKV shows no more than this.
            shown = ('type', 'start_ts', 'primary', 'short_value')
            if info.get('lock'):
                info['lock'] = {name: value for name, value in info['lock'].items() if name in shown}
            return info

    player = Player('txn', diff.Side('A', o.a, True), diff.Side('B', o.b, True), o.mvcc)
    differing, explained = 0, 0
    for seed in o.seeds:
        run = changed(diff.txn_run(random.Random(f'txn/{seed}'), o.steps, o.keys, False), diff)
        found = player.play(run)
        if found and on_purpose(*found):
            explained += 1
        elif found:
            differing += 1
            print(f'seed {seed} differs')
            compare.report(diff, player, run, found, o.shrink)
    print(f'{player.count} requests, {differing} of {len(o.seeds)} seeds differ, {explained} end early where the answers differ on purpose')
    return int(differing > 0)


if __name__ == '__main__':
    sys.exit(main())
