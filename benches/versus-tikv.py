#!/usr/bin/env python3
"""Transactions of TiKV's official Go client: Armilla beside real TiKV, three stores each on one machine, taking turns.

    benches/versus-tikv.py ARMILLA [ROUNDS [SECONDS]]      3 rounds; about 4 seconds each run

ARMILLA is the program. ARMILLA_PEERS is the folder with `run-tikv` and `get` (default ../shared/peers), which are not in
this repository; PEERS that of the unpacked programs (default ~/.cache/armilla/peers). YCSB's core workloads run through
go-ycsb with `tikv.type=txn`: 128 threads, 100,000 records of 1 KB, zipfian. The bank transfer is that of `armilla bench`,
32 clients. Raw requests have a script of their own beside `run-tikv`.

Prints the medians over the rounds, and the median, least and largest of the ratios (Armilla to TiKV) within a round.
"CPU" is what the servers use for an operation, PD included.
"""
import os
import re
import statistics
import subprocess
import sys
import tempfile

from servers import Armilla, Tikv, bench, cpu_s, peers

PORT, RECORDS, THREADS = 27800, 100_000, 128
# Name, shares of the operations, number of operations for a second.
YCSB = {
    'YCSB load': (None, 0),
    'YCSB A': ('readproportion=0.5 updateproportion=0.5', 4000),
    'YCSB B': ('readproportion=0.95 updateproportion=0.05', 8000),
    'YCSB C': ('readproportion=1 updateproportion=0', 10000),
    'YCSB E': ('readproportion=0 updateproportion=0 scanproportion=0.95 insertproportion=0.05 maxscanlength=100', 1000),
    'YCSB F': ('readproportion=0.5 updateproportion=0 readmodifywriteproportion=0.5', 3000),
}
BANK = {f'transfer, {mode}': ['--workload', 'txn-transfer', '--mode', mode, '--clients', '32'] for mode in ('optimistic', 'pessimistic')}


def ycsb(program, folder, pd, shares, operations):
    settings = {'workload': 'core', 'recordcount': RECORDS, 'operationcount': operations, 'threadcount': THREADS, 'tikv.pd': pd,
                'tikv.type': 'txn', 'tikv.conncount': 4, 'requestdistribution': 'zipfian'}
    settings.update(word.split('=') for word in (shares or '').split())
    command = [program, 'run' if shares else 'load', 'tikv']
    command += [word for name, value in settings.items() for word in ('-p', f'{name}={value}')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    ended = done.stdout.split('Run finished')[-1]
    total = [line for line in ended.splitlines() if line.startswith('TOTAL ')]
    if not total:
        said = [line for line in (done.stdout + done.stderr).splitlines() if 'panic' in line or 'error' in line.lower()]
        raise RuntimeError('\n'.join([f'go-ycsb against {pd}: {" ".join(command)}', *said[:5]]))
    read = dict(re.findall(r'(\S+): ([0-9.]+)', total[-1].replace('(us)', '')))
    # Conflicts: go-ycsb gives a transaction up and counts it here.
    failed = sum(int(re.search(r'Count: (\d+)', line).group(1)) for line in ended.splitlines() if '_ERROR ' in line)
    return {'ops': int(read['Count']), 'failed': failed, 'ops_per_s': float(read['OPS']), 'p50_us': float(read['50th']),
            'p99_us': float(read['99th'])}


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    rounds, seconds = (int(value) for value in [*sys.argv[2:], *['3', '4'][len(sys.argv) - 2:]])
    folder_of_tikv = peers()
    unpacked = os.environ.get('PEERS', os.path.expanduser('~/.cache/armilla/peers'))
    with tempfile.TemporaryDirectory() as folder:
        systems = {}
        try:
            systems['TiKV'] = Tikv(folder_of_tikv, folder, PORT)
            systems['Armilla'] = Armilla(program, folder, PORT + 100)
            found = {}

            def run(name, system, work):
                before = cpu_s(systems[system].processes())
                report = work()
                report['cpu_us'] = (cpu_s(systems[system].processes()) - before) / max(report['ops'], 1) * 1e6
                found.setdefault((name, system), []).append(report)

            for turn in range(rounds):
                order = list(systems) if turn % 2 else list(reversed(systems))
                for name, (shares, rate) in YCSB.items():
                    for system in order:
                        run(name, system, lambda: ycsb(f'{unpacked}/go-ycsb', folder, systems[system].pd, shares, rate * seconds))
                for name, options in BANK.items():
                    for system in order:
                        first = [] if turn == 0 and 'optimistic' in options else ['--no-preload']
                        run(name, system, lambda: bench(program, systems[system].pd, [*options, *first, '--keys', '20000'], f'{seconds}s'))
        finally:
            for system in systems.values():
                system.stop()
    for name in [*YCSB, *BANK]:
        for system in systems:
            middle = lambda field: statistics.median(report[field] for report in found[name, system])
            failed = sum(report.get('failed', 0) for report in found[name, system])
            print(f'{name:22} {system:8} {middle("ops_per_s"):8,.0f} /s, p50 {middle("p50_us") / 1000:6.2f} ms, p99 '
                  f'{middle("p99_us") / 1000:6.1f} ms, CPU {middle("cpu_us"):5.0f} us' + (f', {failed} given up' if failed else ''))
        text = f'{name:22} ratio   '
        for field, what in (('ops_per_s', 'rate'), ('p50_us', 'p50'), ('p99_us', 'p99'), ('cpu_us', 'CPU')):
            ratios = [a[field] / b[field] for a, b in zip(found[name, 'Armilla'], found[name, 'TiKV'])]
            text += f' {what} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}),'
        print(text.rstrip(','), flush=True)


if __name__ == '__main__':
    main()
