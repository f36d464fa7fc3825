#!/usr/bin/env python3
"""What many regions cost: puts and gets with one region, one on each store, and many; and idle regions beside real TiKV.

    benches/regions.py ARMILLA requests [REGIONS [ROUNDS [SECONDS]]]     1,000 regions, 5 rounds of 3 seconds
    benches/regions.py ARMILLA beside [REGIONS [ROUNDS [SECONDS]]]       the same, 3 rounds
    benches/regions.py ARMILLA idle [REGIONS]                            3,000 regions

ARMILLA is the program; clusters are three processes. `requests` runs `armilla bench` with 64 clients on three clusters,
with one region, with three (each store leads one) and with many, taking turns, and prints the medians and the ratios
within a round (median, least and largest). Where one store leads everything, requests meet in one process, and more of
them share a write or a message: what the number of regions costs is the ratio of many to three.

The others need TiKV (ARMILLA_PEERS as in versus-tikv.py). `beside` runs the same load on Armilla and then on TiKV, first
with one region, then with many that begin at the same keys, and prints what both cost. `idle` splits both clusters at
the same keys, waits two minutes, and prints the CPU and the memory of all processes over thirty seconds.
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


def beside(program, regions=1000, rounds=3, seconds=3):
    work = {name: ['--workload', name, '--keys', str(KEYS), '--clients', '64'] for name in ('put', 'get')}
    found, keys = {}, []
    print(f'64 clients, {KEYS} keys, {rounds} rounds of {seconds} s; medians')
    for server in ('Armilla', 'TiKV'):
        for count in (1, regions):
            with tempfile.TemporaryDirectory() as folder:
                cluster = Armilla(program, folder, PORT, count) if server == 'Armilla' else Tikv(peers(), folder, PORT)
                try:
                    if server == 'Armilla':
                        all_regions = json.load(urllib.request.urlopen(f'http://{cluster.pd}/pd/api/v1/regions'))['regions']
                        keys = [region['start_key'] for region in all_regions if region['start_key']]
                    elif count > 1:
                        split_at(cluster.pd, keys)
                        # Leaders move to all stores.
                        time.sleep(REST_S / 4)
                    for name in work:
                        bench(program, cluster.pd, work[name], '1s')
                        before = cpu_s(cluster.processes())
                        all_rounds = [bench(program, cluster.pd, work[name], f'{seconds}s') for _ in range(rounds)]
                        used = cpu_s(cluster.processes()) - before
                        rate = statistics.median(report['ops_per_s'] for report in all_rounds)
                        cpu = used / sum(report['ops'] for report in all_rounds) * 1e6
                        found[server, count, name] = rate, cpu
                        # A run of gets begins with puts, which would count.
                        text = f', CPU of all servers {cpu:4.0f} us a request' if name == 'put' else ''
                        print(f'{server:7} {name} {count:5} regions {rate:8,.0f} /s{text}', flush=True)
                finally:
                    cluster.stop()
    for name in work:
        ratios = [[found[server, regions, name][at] / found[server, 1, name][at] for at in (0, 1)] for server in ('Armilla', 'TiKV')]
        ours, theirs = found['Armilla', regions, name], found['TiKV', regions, name]
        for at, what in enumerate(('rate', 'CPU') if name == 'put' else ('rate',)):
            print(f'{name} {what}: many / one Armilla {ratios[0][at]:.2f}, TiKV {ratios[1][at]:.2f}; '
                  f'Armilla / TiKV with many {ours[at] / theirs[at]:.2f}')


def split(pd, regions):
    """Splits by PD's HTTP API, which both have, and returns the number of regions."""
    return split_at(pd, [f'{number:08x}'.encode().hex() for number in range(1, regions)])


def split_at(pd, keys):
    """Makes regions that begin at these keys, as hexadecimal digits."""
    for at in range(0, len(keys), 100):
        body = json.dumps({'split_keys': keys[at:at + 100], 'retry_limit': 20}).encode()
        request = urllib.request.Request(f'http://{pd}/pd/api/v1/regions/split', body, {'Content-Type': 'application/json'})
        urllib.request.urlopen(request, timeout=120).read()
    # Stores report regions that are new with their next heartbeat.
    until, count = time.time() + 10, 0
    while count <= len(keys) and time.time() < until:
        time.sleep(0.2)
        count = json.load(urllib.request.urlopen(f'http://{pd}/pd/api/v1/stats/region'))['count']
    return count


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
    if len(sys.argv) < 3 or sys.argv[2] not in ('requests', 'beside', 'idle'):
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    {'requests': requests, 'beside': beside, 'idle': idle}[sys.argv[2]](program, *map(int, sys.argv[3:]))


if __name__ == '__main__':
    main()
