#!/usr/bin/env python3
"""What many regions cost: puts and gets with one region, one on each store, and many; and idle regions beside real TiKV.

    benches/regions.py ARMILLA requests [REGIONS [ROUNDS [SECONDS]]]     1,000 regions, 5 rounds of 3 seconds
    benches/regions.py ARMILLA idle [REGIONS]                            3,000 regions

ARMILLA is the program; clusters are three processes. `requests` runs `armilla bench` with 64 clients on three clusters,
with one region, with three (each store leads one) and with many, taking turns, and prints the medians and the ratios
within a round (median, least and largest). Where one store leads everything, requests meet in one process, and more of
them share a write or a message: what the number of regions costs is the ratio of many to three. `idle` needs TiKV
(ARMILLA_PEERS as in versus-tikv.py): it splits both clusters at the same keys, waits two minutes, and prints the CPU and
the memory of all processes over thirty seconds.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from servers import Armilla, Tikv, bench, cpu_s, family, peers

PORT, KEYS, REST_S, MEASURED_S = 28100, 100_000, 120, 30


def requests(program, regions=1000, rounds=5, seconds=3):
    counts = {'one region': 1, 'three regions': 3, 'many regions': regions}
    with tempfile.TemporaryDirectory() as folder:
        clusters = {}
        try:
            for at, (name, count) in enumerate(counts.items()):
                os.mkdir(f'{folder}/{at}')
                clusters[name] = Armilla(program, f'{folder}/{at}', PORT + 10 * at, count)
            work = {name: ['--workload', name, '--keys', str(KEYS), '--clients', '64'] for name in ('put', 'get')}
            for cluster in clusters.values():
                bench(program, cluster.pd, work['get'], '1s')
            found = {}
            for turn in range(rounds):
                for name, options in work.items():
                    for which in list(clusters) if turn % 2 else reversed(clusters):
                        pd, pids = clusters[which].pd, clusters[which].processes()
                        before = cpu_s(pids)
                        report = bench(program, pd, [*options, '--no-preload'], f'{seconds}s')
                        report['cpu_us'] = (cpu_s(pids) - before) / report['ops'] * 1e6
                        found.setdefault((name, which), []).append(report)
        finally:
            for cluster in clusters.values():
                cluster.stop()
    print(f'64 clients, {KEYS} keys, {rounds} rounds of {seconds} s; many regions are {regions}')
    for name in work:
        for which in clusters:
            middle = lambda field: statistics.median(report[field] for report in found[name, which])
            print(f'{name} {which:13} {middle("ops_per_s"):8,.0f} /s, p50 {middle("p50_us") / 1000:5.2f} ms, p99 '
                  f'{middle("p99_us") / 1000:5.1f} ms, CPU {middle("cpu_us"):4.0f} us')
        for few in ('one', 'three'):
            text = f'{name} many / {few:5}'
            for field, what in (('ops_per_s', 'rate'), ('p50_us', 'p50'), ('cpu_us', 'CPU')):
                pairs = zip(found[name, 'many regions'], found[name, few + ' region' + 's' * (few != 'one')])
                ratios = [a[field] / b[field] for a, b in pairs]
                text += f' {what} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}),'
            print(text.rstrip(','), flush=True)


def split(pd, regions):
    """Splits by PD's HTTP API, which both have, and returns the number of regions."""
    keys = [f'{number:08x}'.encode().hex() for number in range(1, regions)]
    for at in range(0, len(keys), 100):
        body = json.dumps({'split_keys': keys[at:at + 100], 'retry_limit': 20}).encode()
        request = urllib.request.Request(f'http://{pd}/pd/api/v1/regions/split', body, {'Content-Type': 'application/json'})
        urllib.request.urlopen(request, timeout=120).read()
    return json.load(urllib.request.urlopen(f'http://{pd}/pd/api/v1/stats/region'))['count']


def memory_mib(pid):
    found = re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{pid}/status').read())
    return int(found[1]) / 1024 if found else 0


def idle(program, regions=3000):
    for name in ('Armilla', 'TiKV'):
        with tempfile.TemporaryDirectory() as folder:
            cluster = Armilla(program, folder, PORT, 1) if name == 'Armilla' else Tikv(peers(), folder, PORT)
            try:
                began = time.time()
                count = split(cluster.pd, regions)
                took = time.time() - began
                time.sleep(REST_S)
                before = cpu_s(cluster.processes())
                time.sleep(MEASURED_S)
                used = (cpu_s(cluster.processes()) - before) / MEASURED_S
                memory = sum(memory_mib(pid) for pid in family(cluster.processes()))
                print(f'{name}: {count} regions, split in {took:.1f} s; idle {used * 100:.1f} % of a core and {memory:.0f} MiB in all', flush=True)
            finally:
                cluster.stop()


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ('requests', 'idle'):
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    {'requests': requests, 'idle': idle}[sys.argv[2]](program, *map(int, sys.argv[3:]))


if __name__ == '__main__':
    main()
