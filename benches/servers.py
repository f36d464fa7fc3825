"""What the comparisons of whole servers share: clusters of Armilla's processes, and the CPU time of processes."""
import json
import os
import subprocess
import sys
import time

TICKS = os.sysconf('SC_CLK_TCK')


def cpu_s(roots):
    """Returns the CPU seconds of processes and all their children, those that have ended included."""
    known, total = set(roots), 0.0
    for pid in sorted(int(name) for name in os.listdir('/proc') if name.isdigit()):
        try:
            fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pid in known or int(fields[1]) in known:
            known.add(pid)
            total += sum(int(field) for field in fields[11:15]) / TICKS
    return total


class Armilla:
    """Three processes on ports from `port` on, with five regions."""

    # A region that is split meanwhile would make requests be sent again.
    CONFIG = '[regions]\nsplit_queries_per_s = 1000000\nsplit_kib_per_s = 10000000\n'

    def __init__(self, program, folder, port):
        self.program, self.pd, self.servers = program, f'127.0.0.1:{port}', []
        addresses = [f'127.0.0.1:{port + node}' for node in range(3)]
        members = ','.join(f'n{node + 1}={address}' for node, address in enumerate(addresses))
        open(f'{folder}/armilla.toml', 'w').write(self.CONFIG)
        for node, address in enumerate(addresses):
            name = f'n{node + 1}'
            command = [program, 'start', '--name', name, '--data', f'{folder}/{name}', '--initial-regions', '5', '--config',
                       f'{folder}/armilla.toml', '--addr', address, '--initial-cluster', members]
            log = open(f'{folder}/{name}.log', 'w')
            self.servers.append(subprocess.Popen(command, stdout=log, stderr=log))
        until = time.time() + 60
        while subprocess.run([program, 'ctl', '--pd', self.pd, 'status'], capture_output=True).returncode != 0:
            if time.time() > until:
                sys.exit(f'Armilla did not start: {open(f"{folder}/n1.log").read()[-500:]}')
            time.sleep(0.3)

    def processes(self):
        return [server.pid for server in self.servers]

    def stop(self):
        for server in self.servers:
            server.kill()
            server.wait()


def bench(program, pd, options, duration):
    """Runs `armilla bench` against a cluster, ours or TiKV's, and returns its report."""
    command = [program, 'bench', '--pd', pd, '--json', '--duration', duration, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip(), done.stderr[-500:]
    report = json.loads(done.stdout)
    # Requests fail while a leader is moved: bench does not send raw ones again.
    assert report['errors'] * 50 < report['ops'], report
    return report
