#!/usr/bin/env python3
"""Transactions beside raw requests, on one cluster of three processes: `armilla bench`, taking turns.

    benches/transactions.py ARMILLA [ROUNDS [SECONDS]]      ARMILLA is the program; 5 rounds of 2 seconds

Prints the medians over the rounds, and the median, least and largest of the ratios within a round. "CPU" is what the
three servers use for an operation. Each group of lines has a cluster of its own, so that the reads find one version of
each key.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

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


def cpu_s(pid):
    fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def bench(program, servers, options, duration):
    command = [program, 'bench', '--pd', f'127.0.0.1:{PORT}', '--keys', str(KEYS), '--json', *options]
    before = sum(cpu_s(pid) for pid in servers)
    done = subprocess.run([*command, '--duration', duration], capture_output=True, text=True)
    report = json.loads(done.stdout)
    # Requests fail while a leader is moved: bench does not send them again.
    assert report['errors'] * 50 < report['ops'], done
    report['cpu_us'] = (sum(cpu_s(pid) for pid in servers) - before) / max(report['ops'], 1) * 1e6
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
    members = ','.join(f'n{node}=127.0.0.1:{PORT + node - 1}' for node in (1, 2, 3))
    with tempfile.TemporaryDirectory() as folder:
        # A region that is split meanwhile would make requests fail.
        config = f'{folder}/armilla.toml'
        open(config, 'w').write('[regions]\nsplit_queries_per_s = 1000000\nsplit_kib_per_s = 10000000\n')
        servers = []
        try:
            for node in (1, 2, 3):
                command = [program, 'start', '--name', f'n{node}', '--data', f'{folder}/n{node}', '--initial-regions', '5',
                           '--config', config, '--addr', f'127.0.0.1:{PORT + node - 1}', '--initial-cluster', members]
                log = open(f'{folder}/n{node}.log', 'w')
                servers.append(subprocess.Popen(command, stdout=log, stderr=log))
            status = [program, 'ctl', '--pd', f'127.0.0.1:{PORT}', 'status']
            while subprocess.run(status, capture_output=True).returncode != 0:
                time.sleep(0.3)
            pids = [server.pid for server in servers]
            for options in loads:
                bench(program, pids, options, '100ms')
            found = {name: [] for name, _, _ in runs}
            for _ in range(rounds):
                for name, options, _ in runs:
                    found[name].append(bench(program, pids, options, f'{seconds}s'))
            show(runs, found)
        finally:
            for server in servers:
                server.kill()
                server.wait()


def main():
    program = sys.argv[1]
    rounds, seconds = int((sys.argv[2:] or ['5'])[0]), int((sys.argv[3:] or ['2'])[0])
    for loads, runs in (reads(200), reads(256), writes()):
        measure(program, rounds, seconds, loads, runs)


if __name__ == '__main__':
    main()
