#!/usr/bin/env python3
"""Bank transfers: three processes of Armilla beside one PostgreSQL, on one machine, taking turns.

    benches/versus-postgres.py ARMILLA [ROUNDS [SECONDS [CLIENTS]]]      5 rounds of 4 seconds, 64 clients

ARMILLA is the program. PostgreSQL is Debian's (`apt-get install postgresql`, or PGBIN=folder of its programs); as root
its processes run as the user postgres. A transfer reads two of 20,000 accounts of 256 bytes, drawn uniformly, and writes
both; every commit is synchronous. Armilla's is replicated to three disks' logs, PostgreSQL's is on one.

Prints the medians over the rounds, and the median, least and largest of the ratios within a round. "CPU" is what the
servers use for a transfer that committed.
"""
import glob
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from servers import Armilla, bench, cpu_s

PORT, KEYS, SIZE = 27700, 20_000, 256

# In the order of the accounts, so that two transfers do not wait for each other.
DRAWN = f'\\set x random(1, {KEYS})\n\\set y 1 + mod(:x - 1 + random(1, {KEYS - 1}), {KEYS})\n\\set a least(:x, :y)\n\\set b greatest(:x, :y)\n'
READ = 'SELECT balance FROM accounts WHERE id = :{} FOR UPDATE;\n'
UPDATE = 'UPDATE accounts SET balance = balance {} 1 WHERE id = :{};\n'
SCRIPTS = {
    # What a program does that decides by the balances, as Armilla's bench does.
    'PostgreSQL, reads then writes': DRAWN + 'BEGIN;\n' + READ.format('a') + READ.format('b')
    + UPDATE.format('-', 'a') + UPDATE.format('+', 'b') + 'COMMIT;\n',
    # Its shortest form.
    'PostgreSQL, two updates': DRAWN + 'BEGIN;\n' + UPDATE.format('-', 'a') + UPDATE.format('+', 'b') + 'COMMIT;\n',
}
OURS = {f'Armilla, {mode}': ['--mode', mode] for mode in ('optimistic', 'pessimistic')}


class Postgres:
    def __init__(self, folder):
        found = os.environ.get('PGBIN') or next(iter(sorted(glob.glob('/usr/lib/postgresql/*/bin'), reverse=True)), None)
        if not found or not os.path.exists(f'{found}/initdb'):
            sys.exit('PostgreSQL was not found: apt-get install postgresql, or PGBIN=folder with initdb, postgres and pgbench')
        self.bin, self.data = found, f'{folder}/postgres'
        self.user = 'postgres' if os.getuid() == 0 else None
        os.mkdir(self.data, 0o700)
        if self.user:
            os.chmod(folder, 0o755)
            shutil.chown(self.data, self.user)
        subprocess.run(self.command('initdb', '-D', self.data, '-A', 'trust', '-U', 'bank', '-E', 'UTF8', '--no-locale'),
                       check=True, stdout=subprocess.DEVNULL, cwd='/')
        settings = {'port': PORT + 10, 'listen_addresses': '127.0.0.1', 'unix_socket_directories': self.data, 'fsync': 'on',
                    'synchronous_commit': 'on', 'shared_buffers': '512MB', 'max_wal_size': '4GB', 'max_connections': 200}
        options = [word for name, value in settings.items() for word in ('-c', f'{name}={value}')]
        self.server = subprocess.Popen(self.command('postgres', '-D', self.data, *options), cwd='/',
                                       stdout=subprocess.DEVNULL, stderr=open(f'{folder}/postgres.log', 'w'))
        where = ['-h', '127.0.0.1', '-p', str(PORT + 10), '-U', 'bank', 'postgres']
        until = time.time() + 60
        while subprocess.run([f'{self.bin}/psql', *where, '-c', 'SELECT 1'], capture_output=True).returncode != 0:
            if time.time() > until or self.server.poll() is not None:
                sys.exit(f'PostgreSQL did not start: {open(f"{folder}/postgres.log").read()[-500:]}')
            time.sleep(0.3)
        self.where, self.folder = where, folder
        self.version = self.ask('SHOW server_version').split()[0]
        self.ask(f"CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, filler text NOT NULL)")
        self.ask(f"INSERT INTO accounts SELECT n, 1000, repeat('x', {SIZE - 12}) FROM generate_series(1, {KEYS}) n")
        self.ask('VACUUM ANALYZE accounts')

    def command(self, name, *args):
        as_user = ['runuser', '-u', self.user, '--'] if self.user else []
        return [*as_user, f'{self.bin}/{name}', *args]

    def ask(self, sql):
        done = subprocess.run([f'{self.bin}/psql', *self.where, '-Atc', sql], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def processes(self):
        return [self.server.pid]

    def run(self, name, seconds, clients):
        script = f'{self.folder}/transfer.sql'
        open(script, 'w').write(SCRIPTS[name])
        log = f'{self.folder}/times'
        command = [f'{self.bin}/pgbench', *self.where[:-1], '-n', '-M', 'prepared', '-c', str(clients), '-j', '2', '-T', str(seconds),
                   '--max-tries', '1000', '-f', script, '-l', '--log-prefix', log, self.where[-1]]
        done = subprocess.run(command, capture_output=True, text=True, cwd='/')
        assert done.returncode == 0, done.stderr[-500:]
        times = []
        for path in glob.glob(f'{log}.*'):
            times += [int(line.split()[2]) for line in open(path)]
            os.remove(path)
        times.sort()
        ops = int(re.search(r'actually processed: (\d+)', done.stdout).group(1))
        rate = float(re.search(r'tps = ([0-9.]+)', done.stdout).group(1))
        assert int(self.ask('SELECT sum(balance) FROM accounts')) == 1000 * KEYS
        return {'ops': ops, 'ops_per_s': rate, 'p50_us': times[len(times) // 2], 'p99_us': times[len(times) * 99 // 100]}

    def stop(self):
        self.ask('CHECKPOINT')
        subprocess.run(self.command('pg_ctl', '-D', self.data, '-m', 'immediate', 'stop'), capture_output=True, cwd='/')
        self.server.wait(30)


class Bank(Armilla):
    def run(self, name, seconds, clients):
        options = ['--keys', str(KEYS), '--value-size', str(SIZE), '--workload', 'txn-transfer', '--clients', str(clients), '--no-preload']
        return bench(self.program, self.pd, options + OURS[name], f'{seconds}s')


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    rounds, seconds, clients = (int(value) for value in [*sys.argv[2:], *['5', '4', '64'][len(sys.argv) - 2:]])
    with tempfile.TemporaryDirectory() as folder:
        started = []
        try:
            postgres = Postgres(folder)
            started.append(postgres)
            armilla = Bank(program, folder, PORT)
            started.append(armilla)
            bench(program, armilla.pd, ['--keys', str(KEYS), '--value-size', str(SIZE), '--workload', 'txn-transfer'], '1s')
            runs = [(name, postgres) for name in SCRIPTS] + [(name, armilla) for name in OURS]
            found = {name: [] for name, _ in runs}
            for turn in range(rounds):
                for name, system in runs if turn % 2 == 0 else reversed(runs):
                    before = cpu_s(system.processes())
                    report = system.run(name, seconds, clients)
                    report['cpu_us'] = (cpu_s(system.processes()) - before) / max(report['ops'], 1) * 1e6
                    found[name].append(report)
        finally:
            for system in started:
                system.stop()
    print(f'PostgreSQL {postgres.version}, one process tree; Armilla, three processes; {clients} clients, {rounds} rounds of {seconds} s')
    for name, _ in runs:
        middle = lambda field: statistics.median(report[field] for report in found[name])
        print(f'{name:32} {middle("ops_per_s"):8,.0f} /s, p50 {middle("p50_us") / 1000:6.2f} ms, p99 {middle("p99_us") / 1000:6.1f} ms, '
              f'CPU {middle("cpu_us"):5.0f} us')
    for ours in OURS:
        for theirs in SCRIPTS:
            text = f'{ours} / {theirs}:'
            for field, what in (('ops_per_s', 'rate'), ('p50_us', 'p50'), ('p99_us', 'p99'), ('cpu_us', 'CPU')):
                ratios = [a[field] / b[field] for a, b in zip(found[ours], found[theirs])]
                text += f' {what} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}),'
            print(text.rstrip(','))


if __name__ == '__main__':
    main()
