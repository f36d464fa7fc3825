#!/usr/bin/env python3
"""Splits and merges regions at the same keys of two clusters, and compares what requests with routes of before are answered.

    regions_diff.py --tools ../shared/peers --a 127.0.0.1:2379 --b 127.0.0.1:12379 --seeds 1-20

A and B are placement drivers of clusters of one store each, A's of TiKV and B's of Armilla. `--tools` is the directory of
diff.py, which compares requests with present routes. A run is a function of its seed: splits by SplitRegion, merges by the
operators of PD's HTTP interface, and between them raw requests with routes that were remembered earlier. Compared are which
error comes back, the regions that it names (their ranges, and how their versions have grown), and what is read in the end.
Prints what differs, and ends with 1 if anything did.

Armilla answers more than TiKV about a region that became part of another one: TiKV does not know the region any more,
Armilla names the region that has its range now. Both make clients ask for a new route. And TiKV names as many regions as
the version has grown, be they too few or others; Armilla names those that have the old region's range.
"""
import json
import random
import sys
import time
import urllib.error
import urllib.request

import compare

KEYS = 12
SLOTS = 4
WAIT_S = 60


def patiently(ask):
    """Asks until a region is known: the map of a placement driver may have a hole for a moment after a split."""
    until = time.time() + WAIT_S
    while True:
        try:
            return ask()
        except IndexError:
            assert time.time() < until, 'the placement driver does not know the region of a key'
            time.sleep(0.05)


class Cluster:
    """One cluster, with the routes that a run remembers."""

    def __init__(self, diff, name, address):
        self.diff, self.name = diff, name
        self.side = diff.Side(name, address, False)
        route = self.side.route
        self.side.route = lambda key: patiently(lambda: route(key))

    def begin(self, prefix):
        """Gives the run a region of its own."""
        self.prefix, self.slots, self.base = prefix, {}, 0
        for key in (prefix, prefix + b'~'):
            self.split([key], lasts=True)
        self.base = self.region(b'').region_epoch.version

    def where(self, key):
        return self.prefix + key

    def region(self, key):
        """The region that holds a key, as the placement driver knows it."""
        diff = self.diff
        request = diff.pd.GetRegionRequest(header=self.side.header, region_key=self.where(key))
        ask = lambda: self.side.unary(self.side.pd, 'pdpb.PD/GetRegion', request, diff.pd.GetRegionResponse).region
        return patiently(lambda: [region for region in [ask()] if region.id][0])

    def split(self, keys, lasts=False):
        """Splits the region that holds the first key. With `lasts`, until it is split; otherwise returns the answer."""
        diff, until = self.diff, time.time() + WAIT_S
        while True:
            self.side.routes = []
            context, address = self.side.route(keys[0])
            request = diff.kv.SplitRegionRequest(context=context, split_keys=keys, is_raw_kv=True)
            answer = self.side.unary(address, 'tikvpb.Tikv/SplitRegion', request, diff.kv.SplitRegionResponse)
            busy = any(answer.region_error.HasField(kind) for kind in ('not_leader', 'server_is_busy', 'epoch_not_match', 'region_not_found', 'stale_command'))
            border = 'start_key' in answer.region_error.key_not_in_region.DESCRIPTOR.fields_by_name and answer.region_error.HasField('key_not_in_region')
            if answer.HasField('region_error') and (busy or (lasts and not border and not answer.region_error.message)):
                assert time.time() < until, f'{self.name} does not split: {answer}'
                time.sleep(0.05)
                continue
            self.settle()
            return answer

    def settle(self):
        """Waits until every region of the run answers."""
        key = b''
        while True:
            self.side.routes = []
            self.side.call('RawGet', self.diff.kv.RawGetRequest(key=self.where(key)), self.where(key))
            end = self.region(key).end_key
            if not end or end >= self.where(b'~') or not end.startswith(self.prefix):
                return
            key = end[len(self.prefix):]

    def merge(self, key):
        """Makes the region that holds a key part of the next one. Returns whether there was a next one."""
        until = time.time() + WAIT_S
        source = self.region(key)
        if not source.end_key or source.end_key >= self.where(b'~') or source.start_key < self.prefix:
            return False
        target = self.region(source.end_key[len(self.prefix):])
        body = json.dumps({'name': 'merge-region', 'source_region_id': source.id, 'target_region_id': target.id}).encode()
        asked = 0.0
        while self.region(key).end_key == source.end_key:
            assert time.time() < until, f'{self.name} does not merge region {source.id} into {target.id}'
            if time.time() - asked > 5:
                asked = time.time()
                request = urllib.request.Request(f'http://{self.side.pd}/pd/api/v1/operators', body, {'Content-Type': 'application/json'})
                try:
                    urllib.request.urlopen(request, timeout=10).read()
                except urllib.error.HTTPError as error:
                    error.read()
            time.sleep(0.1)
        self.settle()
        return True

    def remember(self, slot, key):
        self.side.routes = []
        self.side.route(self.where(key))
        self.slots[slot] = self.side.routes[-1]

    def old(self, slot, name, fields):
        """Sends a request with a remembered route."""
        request = self.diff.CALLS[name][0](**fields)
        _, _, context, address = self.slots[slot]
        request.context.CopyFrom(context)
        return self.side.unary(address, 'tikvpb.Tikv/' + name, request, self.diff.CALLS[name][1])

    def view(self, region):
        def name(key):
            return key[len(self.prefix):].decode() if key.startswith(self.prefix) else 'outside'

        return [name(region.start_key), name(region.end_key), region.region_epoch.version - self.base]

    def plain(self, answer, slot=None):
        """An answer in the run's own names. Of regions that an error names, those in the range of the remembered route."""
        if not answer.HasField('region_error'):
            view = self.diff.View(self.prefix, 0)(answer)
            for field in ('left', 'right'):
                view.pop(field, None)
            if 'regions' in view:
                view['regions'] = sorted(self.view(region) for region in answer.regions)
            return view
        error = answer.region_error
        kinds = [field.name for field, _ in error.ListFields() if field.name != 'message']
        out = {'region_error': kinds or ['message']}
        if error.HasField('epoch_not_match'):
            start, end = self.slots[slot][:2] if slot is not None else (b'', b'')
            named = [region for region in error.epoch_not_match.current_regions
                     if (not end or region.start_key < end) and (not region.end_key or start < region.end_key)]
            out['regions'] = sorted(self.view(region) for region in named)
        return out


def run_of(seed):
    """The steps of a run."""
    rng = random.Random(seed)

    def key():
        return b'%02d' % rng.randrange(KEYS)

    steps = [('remember', slot, key()) for slot in range(SLOTS)]
    for _ in range(40):
        what = rng.choices(['put', 'split', 'merge', 'remember', 'old'], [4, 4, 3, 3, 12])[0]
        if what == 'put':
            steps.append(('put', key(), b'v%d' % rng.randrange(100)))
        elif what == 'split':
            steps.append(('split', sorted({key() for _ in range(rng.choice([1, 1, 2, 3]))})))
        elif what == 'merge':
            steps.append(('merge', key()))
        elif what == 'remember':
            steps.append(('remember', rng.randrange(SLOTS), key()))
        else:
            call = rng.choice(['RawGet', 'RawPut', 'RawDelete', 'RawScan', 'RawBatchGet', 'RawDeleteRange', 'RawCompareAndSwap'])
            steps.append(('old', rng.randrange(SLOTS), call, key(), key()))
    return steps


def fields_of(call, prefix, a, b):
    a, b = sorted([a, b])
    b += b'~' if a == b else b''
    return {
        'RawGet': dict(key=prefix + a), 'RawPut': dict(key=prefix + a, value=b'old'), 'RawDelete': dict(key=prefix + a),
        'RawScan': dict(start_key=prefix + a, end_key=prefix + b, limit=10), 'RawBatchGet': dict(keys=[prefix + a, prefix + b]),
        'RawDeleteRange': dict(start_key=prefix + a, end_key=prefix + b),
        'RawCompareAndSwap': dict(key=prefix + a, value=b'swapped', previous_not_exist=True),
    }[call]


def is_explained(a, b):
    """TiKV has forgotten a region that became part of another one, or does not name all regions that have its range now."""
    if b.get('region_error') != ['epoch_not_match']:
        return False
    fewer = a.get('region_error') == ['epoch_not_match'] and all(region in b['regions'] for region in a['regions'])
    return fewer or a == {'region_error': ['region_not_found']}


def play(diff, clusters, seed, verbose):
    prefix = b'regions/%d/%d/' % (time.time_ns(), seed)
    for cluster in clusters:
        cluster.begin(prefix)
    reached = {}
    for index, step in enumerate(run_of(seed)):
        if step[0] == 'put':
            request = diff.kv.RawPutRequest(key=prefix + step[1], value=step[2])
            answers = [cluster.plain(cluster.side.call('RawPut', request, prefix + step[1])) for cluster in clusters]
        elif step[0] == 'split':
            answers = [cluster.plain(cluster.split([prefix + key for key in step[1]])) for cluster in clusters]
        elif step[0] == 'merge':
            answers = [cluster.merge(step[1]) for cluster in clusters]
        elif step[0] == 'remember':
            for cluster in clusters:
                cluster.remember(step[1], step[2])
            continue
        else:
            fields = fields_of(step[2], prefix, step[3], step[4])
            answers = [cluster.plain(cluster.old(step[1], step[2], fields), step[1]) for cluster in clusters]
        kind = step[0] if step[0] != 'old' else str(answers[0].get('region_error', 'served'))
        reached[kind] = reached.get(kind, 0) + 1
        if verbose:
            print(f'{index:4} {step}\n     {answers[0]}\n     {answers[1]}')
        if answers[0] != answers[1] and not (step[0] == 'old' and is_explained(*answers)):
            return f'at step {index}: {step}\n    A: {answers[0]}\n    B: {answers[1]}', reached
    last = diff.kv.RawScanRequest(start_key=prefix, end_key=prefix + b'~', limit=1000)
    pairs = []
    for cluster in clusters:
        found, start = [], prefix
        while True:
            last.start_key = start
            cluster.side.routes = []
            found += [(pair.key, pair.value) for pair in cluster.side.call('RawScan', last, start).kvs]
            end = cluster.region(start[len(prefix):]).end_key
            if not end or end >= prefix + b'~':
                break
            start = end
        pairs.append(found)
    return (None if pairs[0] == pairs[1] else f'in the end:\n    A: {pairs[0]}\n    B: {pairs[1]}'), reached


def main():
    parser = compare.arguments(__doc__, '1-20')
    parser.add_argument('-v', '--verbose', action='store_true')
    args, diff = compare.parse(parser)
    clusters = Cluster(diff, 'A', args.a), Cluster(diff, 'B', args.b)
    differ, total = 0, {}
    for seed in args.seeds:
        found, reached = play(diff, clusters, seed, args.verbose)
        for kind, count in reached.items():
            total[kind] = total.get(kind, 0) + count
        if found:
            differ += 1
            print(f'seed {seed} differs {found}')
    print(f'reached: {dict(sorted(total.items()))}')
    print(f'{differ} of {len(args.seeds)} seeds differ')
    sys.exit(1 if differ else 0)


if __name__ == '__main__':
    main()
