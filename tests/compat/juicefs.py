"""JuiceFS (client-go inside): a file system whose metadata is in transactions, while the leader of its keys is killed.

Puts, gets, lists, renames and deletes some hundred files by WebDAV, dumps the metadata, loads it into a second volume, compares
the two dumps, and lets `gc` and `fsck` look for anything that is lost or left. ARMILLA_JUICEFS is the program.
"""

import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from harness import ADDRS, REGIONS, check, done, kill_leader_of, restart, steadfast

JUICEFS = os.environ["ARMILLA_JUICEFS"]
FOLDERS, FILES, THREADS = 6, 60, 4
WHERE = tempfile.mkdtemp(prefix="armilla-juicefs-")
HOME = {**os.environ, "HOME": WHERE}
RNG = random.Random(1)
checks = 0


def same(name, seen, expected):
    global checks
    checks += 1
    check(name, seen, expected)


def meta(volume):
    """The address of a volume's metadata."""
    return f"tikv://{','.join(ADDRS)}/{volume}"


def run(*words):
    """Runs the program to its end, and returns what it printed."""
    command = [JUICEFS, "--no-agent", "--no-color", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=HOME, cwd=WHERE)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "<FATAL>" not in done.stderr, f"{words}: {done.stderr}"
    return done.stdout + done.stderr


def format_volume(volume):
    bucket = ["--storage", "file", "--bucket", WHERE + "/objects/", "--trash-days", "0"]
    return run("format", "--no-update", *bucket, meta(volume), "armilla")


def memcomparable(key):
    """The form of a key in the boundaries of regions."""
    out = b""
    for at in range(0, len(key) + 1, 8):
        group = key[at:at + 8]
        out += group.ljust(8, b"\0") + bytes([0xFF - (8 - len(group))])
    return out


class WebDav:
    """The file system as a server of files."""

    def __init__(self, volume):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = open(f"{WHERE}/webdav.log", "w")
        options = ["--no-usage-report", "--cache-dir", WHERE + "/cache", "--cache-size", "64", "--metrics", "127.0.0.1:0"]
        options += ["--log", f"{WHERE}/access.log", "--backup-meta", "0", "--heartbeat", "2s"]
        command = [JUICEFS, "--no-agent", "--no-color", "webdav", *options, meta(volume), f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=HOME, cwd=WHERE)
        steadfast("webdav answers", lambda: self.ask("OPTIONS", "/", good=(200,)))

    def ask(self, method, path, body=None, good=(200, 201, 204, 207), headers=None):
        """Sends a request; returns the answer's body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status in good, f"{method} {path}: {answer.status} {content[:200]!r}"
            return content
        finally:
            connection.close()

    def names(self, folder):
        """The names in a folder."""
        listed = self.ask("PROPFIND", folder, headers={"Depth": "1"}).decode()
        paths = re.findall(r"<D:href>([^<]*)</D:href>", listed)
        return sorted(path.rstrip("/").rsplit("/", 1)[1] for path in paths if path.rstrip("/") != folder.rstrip("/"))

    def stop(self):
        self.process.terminate()
        same("webdav ends", self.process.wait(60) in (0, -15, 143), True)


def dump(volume):
    """The metadata of a volume, without what differs between two sessions."""
    path = f"{WHERE}/{volume}.json"
    run("dump", "--keep-secret-key", meta(volume), path)
    found = json.load(open(path))
    for name in ("Sessions", "Counters"):
        found.pop(name, None)
    return found


try:
    prefix = memcomparable(b"armilla-a")
    home = max(region for region in REGIONS if region <= prefix)
    steadfast("format", lambda: format_volume("armilla-a"))
    server = WebDav("armilla-a")
    model = {}
    for folder in range(FOLDERS):
        server.ask("MKCOL", f"/folder{folder}")

    def put(number):
        path = f"/folder{number % FOLDERS}/file{number:04}"
        content = random.Random(number).randbytes(RNG.choice([0, 17, 4096, 70000]))
        # A put that was cut off leaves the old content, or the new one.
        steadfast(f"put {path}", lambda: server.ask("PUT", path, content))
        return path, hashlib.sha256(content).digest()

    with ThreadPoolExecutor(THREADS) as threads:
        half = FOLDERS * FILES // 2
        model.update(threads.map(put, range(half)))
        kill_leader_of(home)
        began = time.monotonic()
        model.update(threads.map(put, range(half, FOLDERS * FILES)))
        print(f"{FOLDERS * FILES - half} files with a dead node: {time.monotonic() - began:.1f} s", flush=True)
        restart()

        def get(path):
            return path, hashlib.sha256(steadfast("get", lambda: server.ask("GET", path))).digest()

        same("every file", dict(threads.map(get, sorted(model))), model)

    for path in sorted(model)[::7]:
        steadfast("delete", lambda: server.ask("DELETE", path, good=(204, 404)))
        del model[path]
        server.ask("GET", path, good=(404,))
    for path in sorted(model)[::5]:
        new = path + "-moved"
        server.ask("MOVE", path, headers={"Destination": f"http://127.0.0.1:{server.port}{new}"})
        model[new] = model.pop(path)
    for folder in range(FOLDERS):
        expected = sorted(path.rsplit("/", 1)[1] for path in model if path.startswith(f"/folder{folder}/"))
        same("list", server.names(f"/folder{folder}"), expected)
    for path in sorted(model)[::3]:
        same("get", hashlib.sha256(server.ask("GET", path)).digest(), model[path])
    server.stop()

    # The metadata survives a dump and a load.
    first = dump("armilla-a")
    run("load", meta("armilla-b"), f"{WHERE}/armilla-a.json")
    second = dump("armilla-b")
    same("the loaded volume", second["FSTree"], first["FSTree"])
    same("all of it", sorted(second), sorted(first))
    for volume in ("armilla-a", "armilla-b"):
        collected = run("gc", meta(volume))
        same("gc finds nothing lost or left", re.findall(r"(\d+) leaked \(", collected), ["0"])
        found = run("fsck", meta(volume))
        same("fsck finds nothing broken", ("broken" in found, "<ERROR>" in found), (False, False))
    statistics = json.loads(run("status", meta("armilla-a")).partition("{")[2].join(["{", ""]).rpartition("}")[0] + "}")
    same("no session is left", statistics["Sessions"] or [], [])
    print(f"{len(model)} files", flush=True)
    done(checks)
finally:
    shutil.rmtree(WHERE, ignore_errors=True)
