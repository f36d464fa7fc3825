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
import argparse
import random
import sys


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
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--tools', required=True, help='the folder of diff.py')
    p.add_argument('--a', required=True)
    p.add_argument('--b', required=True)
    p.add_argument('--seeds', default='1-40')
    p.add_argument('--steps', type=int, default=400)
    p.add_argument('--keys', type=int, default=8)
    p.add_argument('--mvcc', choices=['exact', 'committed'], default='exact')
    p.add_argument('--shrink', action='store_true')
    o = p.parse_args()
    sys.path.insert(0, o.tools)
    import diff

    class Player(diff.Player):
        def versions(self, view, answer):
            info = super().versions(view, answer)
            # Of a lock TiKV shows no more than this.
            shown = ('type', 'start_ts', 'primary', 'short_value')
            if info.get('lock'):
                info['lock'] = {name: value for name, value in info['lock'].items() if name in shown}
            return info

    player = Player('txn', diff.Side('A', o.a, True), diff.Side('B', o.b, True), o.mvcc)
    first, _, last = o.seeds.partition('-')
    seeds = range(int(first), int(last or first) + 1)
    differing, explained = 0, 0
    for seed in seeds:
        run = changed(diff.txn_run(random.Random(f'txn/{seed}'), o.steps, o.keys, False), diff)
        found = player.play(run)
        if found and on_purpose(*found):
            explained += 1
        elif found:
            differing += 1
            print(f'seed {seed} differs')
            diff.show(found, 'AB')
            if o.shrink:
                small = diff.shrink(player, run[:found[0] + 1])
                print(f'  shortest list found ({len(small)} requests):')
                for name, fields in small:
                    print(f'    {name} {diff.brief(fields)}')
                found = player.play(small)
                if found:
                    diff.show(found, 'AB')
    print(f'{player.count} requests, {differing} of {len(seeds)} seeds differ, {explained} end early where the answers differ on purpose')
    return int(differing > 0)


if __name__ == '__main__':
    sys.exit(main())
