"""What the comparisons of whole servers share: clusters of Armilla's processes, and the CPU time of processes."""
import json
import os
import subprocess
import sys
import time
import urllib.request

TICKS = os.sysconf('SC_CLK_TCK')


def family(roots):
    """Returns processes and all their descendants, with the fields of /proc/PID/stat after the name."""
    known = {pid: None for pid in roots}
    for pid in sorted(int(name) for name in os.listdir('/proc') if name.isdigit()):
        try:
            fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pid in known or int(fields[1]) in known:
            known[pid] = fields
    return {pid: fields for pid, fields in known.items() if fields}


def cpu_s(roots):
    """Returns the CPU seconds of processes and all their descendants, those that have ended included."""
    return sum(int(field) for fields in family(roots).values() for field in fields[11:15]) / TICKS


class Armilla:
    """Three processes on ports from `port` on."""

    # A region that is split meanwhile would make requests be sent again.
    CONFIG = '[regions]\nsplit_queries_per_s = 1000000\nsplit_kib_per_s = 10000000\n'

    def __init__(self, program, folder, port, regions=5):
        self.program, self.pd, self.servers = program, f'127.0.0.1:{port}', []
        addresses = [f'127.0.0.1:{port + node}' for node in range(3)]
        members = ','.join(f'n{node + 1}={address}' for node, address in enumerate(addresses))
        open(f'{folder}/armilla.toml', 'w').write(self.CONFIG)
        for node, address in enumerate(addresses):
            name = f'n{node + 1}'
            command = [program, 'start', '--name', name, '--data', f'{folder}/{name}', '--initial-regions', str(regions), '--config',
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


class Tikv:
    """Three stores of real TiKV and a PD, by `run-tikv` of the folder `peers`, with PD on `port`."""

    def __init__(self, peers, folder, port):
        self.pd = f'127.0.0.1:{port}'
        self.server = subprocess.Popen([f'{peers}/run-tikv', f'{folder}/tikv', str(port), '3'], stdout=subprocess.DEVNULL)
        until = time.time() + 180
        while not self.is_whole():
            if time.time() > until or self.server.poll() is not None:
                sys.exit('TiKV does not reach three replicas')
            time.sleep(0.5)

    def is_whole(self):
        """Returns whether the first region has its three replicas: PD adds two of them one after the other."""
        try:
            regions = json.load(urllib.request.urlopen(f'http://{self.pd}/pd/api/v1/regions'))['regions']
        except (OSError, KeyError):
            return False
        return bool(regions) and all(len(region['peers']) == 3 and not region.get('pending_peers') for region in regions)

    def processes(self):
        return [self.server.pid]

    def stop(self):
        self.server.terminate()
        self.server.wait(60)


def peers():
    """Returns the folder of `run-tikv`, which is not in this repository, after unpacking its programs."""
    folder = os.path.abspath(os.environ.get('ARMILLA_PEERS', os.path.join(os.path.dirname(__file__), '../../shared/peers')))
    if not os.path.exists(f'{folder}/run-tikv'):
        sys.exit(f'no TiKV to compare with in {folder}: ARMILLA_PEERS is the folder with run-tikv')
    subprocess.run([f'{folder}/get'], check=True, stdout=subprocess.DEVNULL)
    return folder


def bench(program, pd, options, duration):
    """Runs `armilla bench` against a cluster, ours or TiKV's, and returns its report."""
    command = [program, 'bench', '--pd', pd, '--json', '--duration', duration, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip(), done.stderr[-500:]
    report = json.loads(done.stdout)
    # Requests fail while a leader is moved: bench does not send raw ones again.
    assert report['errors'] * 50 < report['ops'], report
    return report
