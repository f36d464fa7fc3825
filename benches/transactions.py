#!/usr/bin/env python3
"""Transactions beside raw requests, on one cluster of three processes: `armilla bench`, taking turns.

    benches/transactions.py ARMILLA [ROUNDS [SECONDS]]      ARMILLA is the program; 5 rounds of 2 seconds

Prints the medians over the rounds, and the median, least and largest of the ratios within a round. "CPU" is what the
three servers use for an operation. Each group of lines has a cluster of its own, so that the reads find one version of
each key.
"""
import statistics
import sys
import tempfile

from servers import Armilla, bench, cpu_s

PORT, KEYS = 27600, 20_000


def reads(size):
    """Name, what bench is to do, and what it is compared with."""
    made = []
    for name, raw, txn, clients in (('get', 'get', 'txn-get', 1), ('get', 'get', 'txn-get', 64),
                                    ('scan of 100', 'scan', 'txn-scan', 16)):
        options = ['--clients', str(clients), '--value-size', str(size), '--no-preload']
        base = f'raw {name}, {size} B, {clients} client(s)'
        made.append((base, ['--workload', raw, *options], None))
        made.append((f'snapshot {name}, {size} B, {clients} client(s)', ['--workload', txn, *options], base))
    loads = [['--workload', workload, '--value-size', str(size)] for workload in ('get', 'txn-get')]
    return loads, made


def writes():
    made = []
    for clients in (1, 64):
        base = f'raw put, {clients} client(s)'
        made.append((base, ['--workload', 'put', '--clients', str(clients)], None))
        options = ['--workload', 'txn-put', '--clients', str(clients)]
        made.append((f'one-phase put, {clients} client(s)', options, base))
    for distribution in ('uniform', 'zipfian'):
        for workload in ('rmw', 'transfer'):
            for mode in ('optimistic', 'pessimistic'):
                options = ['--workload', f'txn-{workload}', '--mode', mode, '--clients', '32', '--distribution', distribution]
                made.append((f'{workload}, {distribution}, {mode}', options, None))
    return [], made


def run(cluster, options, duration):
    before = cpu_s(cluster.processes())
    report = bench(cluster.program, cluster.pd, ['--keys', str(KEYS), *options], duration)
    report['cpu_us'] = (cpu_s(cluster.processes()) - before) / max(report['ops'], 1) * 1e6
    return report


def show(runs, found):
    middle = lambda name, field: statistics.median(report[field] for report in found[name])
    for name, options, other in runs:
        text = (f'{name:40} {middle(name, "ops_per_s"):8,.0f} /s, p50 {middle(name, "p50_us") / 1000:6.2f} ms, '
                f'p99 {middle(name, "p99_us") / 1000:6.1f} ms')
        if 'txn-rmw' in options or 'txn-transfer' in options:
            # The servers' CPU includes the loading of the keys.
            tries = middle(name, 'ops') + middle(name, 'retries')
            text += f' | retries {middle(name, "retries") / tries * 100:.1f} %'
        else:
            text += f', CPU {middle(name, "cpu_us"):5.0f} us'
        if other:
            for field, what in (('ops_per_s', 'rate'), ('p50_us', 'p50'), ('cpu_us', 'CPU')):
                ratios = [a[field] / b[field] for a, b in zip(found[name], found[other])]
                text += f' | {what} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
        print(text, flush=True)


def measure(program, rounds, seconds, loads, runs):
    """Starts a cluster, and runs a group of lines on it."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Armilla(program, folder, PORT)
        try:
            for options in loads:
                run(cluster, options, '100ms')
            found = {name: [] for name, _, _ in runs}
            for _ in range(rounds):
                for name, options, _ in runs:
                    found[name].append(run(cluster, options, f'{seconds}s'))
            show(runs, found)
        finally:
            cluster.stop()


def main():
    program = sys.argv[1]
    rounds, seconds = int((sys.argv[2:] or ['5'])[0]), int((sys.argv[3:] or ['2'])[0])
    for loads, runs in (reads(200), reads(256), writes()):
        measure(program, rounds, seconds, loads, runs)


if __name__ == '__main__':
    main()
