#!/usr/bin/env python3
"""Idle regions on three nodes, and an idle etcd of three beside them: CPU and memory, and how long a dead node's regions
have no leader.

    benches/idle.py ARMILLA [REGIONS]      ARMILLA is the program; etcd is left out where it is not installed

Each node is a process on this machine. Times are from the start of the processes, or from the end of one of them
(SIGKILL), until the other nodes lead all regions, without a request.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

PORT, ETCD_PORT, REST_S, MEASURED_S = 24300, 24400, 60, 30


def cpu_s(pid):
    fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def memory_mib(pid):
    return int(re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{pid}/status').read())[1]) / 1024


def measure(name, pids):
    before = [cpu_s(pid) for pid in pids]
    time.sleep(MEASURED_S)
    for number, (pid, spent) in enumerate(zip(pids, before), 1):
        print(f'{name} {number}: {(cpu_s(pid) - spent) / MEASURED_S * 100:.1f} % of a core, {memory_mib(pid):.0f} MiB', flush=True)


def metric(node, name):
    try:
        text = urllib.request.urlopen(f'http://127.0.0.1:{PORT + node}/metrics', timeout=5).read().decode()
    except OSError:
        return 0
    found = re.search(rf'^armilla_raft_{name} ([\d.e+]+)$', text, re.M)
    return float(found[1]) if found else 0


def wait_for(name, nodes, sum_of, interval_s):
    began = time.time()
    while sum(metric(node, name) for node in nodes) < sum_of:
        time.sleep(interval_s)
    return time.time() - began


def armilla(program, regions, folder):
    nodes = (1, 2, 3)
    members = ','.join(f'n{node}=127.0.0.1:{PORT + node}' for node in nodes)
    began = time.time()
    processes = {}
    for node in nodes:
        command = [program, 'start', '--name', f'n{node}', '--data', f'{folder}/n{node}', '--addr', f'127.0.0.1:{PORT + node}',
                   '--initial-cluster', members, '--initial-regions', str(regions)]
        log = open(f'{folder}/n{node}.log', 'w')
        processes[node] = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for('leaders', nodes, regions + 1, 0.2)
        print(f'all regions led after {time.time() - began:.1f} s', flush=True)
        wait_for('groups_asleep', nodes, 3 * regions, 0.5)
        print(f'all regions asleep after {time.time() - began:.1f} s', flush=True)
        time.sleep(REST_S)
        measure('armilla', [processes[node].pid for node in nodes])
        processes[3].send_signal(signal.SIGKILL)
        print(f'node 3 killed: all regions led elsewhere after {wait_for("leaders", (1, 2), regions + 1, 0.05):.1f} s', flush=True)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def etcd(folder):
    urls = {node: f'http://127.0.0.1:{ETCD_PORT + node}' for node in (1, 2, 3)}
    members = ','.join(f'e{node}={url}' for node, url in urls.items())
    processes = []
    for node, url in urls.items():
        client = f'http://127.0.0.1:{ETCD_PORT + 10 + node}'
        command = ['etcd', '--name', f'e{node}', '--data-dir', f'{folder}/e{node}', '--initial-cluster', members, '--log-level', 'error',
                   '--listen-peer-urls', url, '--initial-advertise-peer-urls', url, '--listen-client-urls', client, '--advertise-client-urls', client]
        log = open(f'{folder}/e{node}.log', 'w')
        processes.append(subprocess.Popen(command, stdout=log, stderr=log))
    try:
        time.sleep(15)
        measure('etcd', [process.pid for process in processes])
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main():
    program, regions = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory(prefix='armilla-idle-') as folder:
        armilla(program, regions, folder)
        if shutil.which('etcd'):
            etcd(folder)


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
