#!/usr/bin/env python3
"""Transactions beside raw requests, on one cluster of three processes: `armilla bench`, taking turns.

    benches/transactions.py ARMILLA [ROUNDS [SECONDS]]      ARMILLA is the program; 5 rounds of 3 seconds

Prints the medians over the rounds, and the median, least and largest of the ratios within a round. "CPU" is what the
three servers use for an operation.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PORT, KEYS = 27600, 20_000
# Name, what bench is to do, and what it is compared with.
RUNS = [
    ('raw put, 1 client', ['--workload', 'put', '--clients', '1'], None),
    ('one-phase put, 1 client', ['--workload', 'txn-put', '--clients', '1'], 'raw put, 1 client'),
    ('raw put, 64 clients', ['--workload', 'put', '--clients', '64'], None),
    ('one-phase put, 64 clients', ['--workload', 'txn-put', '--clients', '64'], 'raw put, 64 clients'),
    ('raw get, 1 client', ['--workload', 'get', '--clients', '1'], None),
    ('snapshot get, 1 client', ['--workload', 'txn-get', '--clients', '1'], 'raw get, 1 client'),
    ('raw get, 64 clients', ['--workload', 'get', '--clients', '64'], None),
    ('snapshot get, 64 clients', ['--workload', 'txn-get', '--clients', '64'], 'raw get, 64 clients'),
    ('raw scan of 100, 16 clients', ['--workload', 'scan', '--clients', '16'], None),
    ('snapshot scan of 100, 16 clients', ['--workload', 'txn-scan', '--clients', '16'], 'raw scan of 100, 16 clients'),
]
for distribution in ('uniform', 'zipfian'):
    for workload in ('rmw', 'transfer'):
        for mode in ('optimistic', 'pessimistic'):
            options = ['--workload', f'txn-{workload}', '--mode', mode, '--clients', '32', '--distribution', distribution]
            RUNS.append((f'{workload}, {distribution}, {mode}', options, None))


def cpu_s(pid):
    fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def bench(program, servers, options, seconds):
    command = [program, 'bench', '--pd', f'127.0.0.1:{PORT}', '--keys', str(KEYS), '--json', *options]
    # The sum of all accounts is only checked by a run that has loaded them.
    skips = [] if 'txn-transfer' in options else ['--no-preload']
    if skips:
        subprocess.run([*command, '--duration', '1ms', '--warmup', '0s'], capture_output=True, text=True)
    before = sum(cpu_s(pid) for pid in servers)
    done = subprocess.run([*command, *skips, '--duration', f'{seconds}s'], capture_output=True, text=True)
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    report['cpu_us'] = (sum(cpu_s(pid) for pid in servers) - before) / max(report['ops'], 1) * 1e6
    return report


def measure(program, servers, rounds, seconds):
    found = {name: [] for name, _, _ in RUNS}
    for turn in range(rounds):
        for name, options, _ in RUNS:
            found[name].append(bench(program, servers, options, seconds))
        print(f'round {turn + 1} of {rounds}', file=sys.stderr, flush=True)
    middle = lambda name, field: statistics.median(report[field] for report in found[name])
    for name, _, other in RUNS:
        text = (f'{name:34} {middle(name, "ops_per_s"):8,.0f} /s, p50 {middle(name, "p50_us") / 1000:6.2f} ms, '
                f'p99 {middle(name, "p99_us") / 1000:6.1f} ms')
        if not name.startswith('transfer'):
            text += f', CPU {middle(name, "cpu_us"):5.0f} us'
        if other:
            for field, what in (('ops_per_s', 'rate'), ('p50_us', 'p50'), ('cpu_us', 'CPU')):
                ratios = [a[field] / b[field] for a, b in zip(found[name], found[other])]
                text += f' | {what} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
        if found[name][0].get('retries') is not None and name not in ('snapshot get, 1 client', 'snapshot get, 64 clients'):
            tries = middle(name, 'ops') + middle(name, 'retries')
            text += f' | retries {middle(name, "retries") / tries * 100:.1f} %'
        print(text)


def main():
    program = sys.argv[1]
    rounds, seconds = int((sys.argv[2:] or ['5'])[0]), int((sys.argv[3:] or ['3'])[0])
    members = ','.join(f'n{node}=127.0.0.1:{PORT + node - 1}' for node in (1, 2, 3))
    with tempfile.TemporaryDirectory() as folder:
        servers = []
        try:
            for node in (1, 2, 3):
                command = [program, 'start', '--name', f'n{node}', '--data', f'{folder}/n{node}', '--initial-regions', '5',
                           '--addr', f'127.0.0.1:{PORT + node - 1}', '--initial-cluster', members]
                log = open(f'{folder}/n{node}.log', 'w')
                servers.append(subprocess.Popen(command, stdout=log, stderr=log))
            status = [program, 'ctl', '--pd', f'127.0.0.1:{PORT}', 'status']
            while subprocess.run(status, capture_output=True).returncode != 0:
                time.sleep(0.3)
            measure(program, [server.pid for server in servers], rounds, seconds)
        finally:
            for server in servers:
                server.kill()
                server.wait()


if __name__ == '__main__':
    main()
