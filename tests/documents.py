#!/usr/bin/env python3
"""Runs the commands that the documents show, and compares what they print with what the documents say.

Goal: the documents' commands work as written. Method: every fenced block of every document has an entry in
BLOCKS, which runs it or says why it is not run; a block without an entry, and an entry without a block, is a failure.
Ports, directories and addresses are replaced by free ones, and numbers in the output are ignored.

Needs the binary (`cargo build --release`), and for the simulator's blocks its build. Run by `.ci/test documents`.
"""
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ARMILLA = TARGET / "release" / "armilla"
# The network of the documents' three machines.
MACHINES = [f"10.0.0.{n}:2379" for n in (1, 2, 3)]


def blocks(document):
    """The fenced blocks of a document: (language, text)."""
    found, inside, language = [], None, ""
    for line in (ROOT / document).read_text().splitlines():
        if line.startswith("```"):
            if inside is None:
                inside, language = [], line[3:]
            else:
                found.append((language, "\n".join(inside)))
                inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{document}: a fenced block does not end"
    return found


def free_ports(count):
    """`count` ports in a row that nothing listens on."""
    for base in range(24000, 60000, 50):
        sockets = []
        try:
            for port in range(base, base + count):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


def run(command, timeout=600, **options):
    """Runs a command to its end; returns its exit code and everything it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, **options)
    return done.returncode, done.stdout + done.stderr


def shape(line):
    """A line without its numbers and widths."""
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "N", line)).strip()


def require_lines(document_text, printed, what):
    """Every line of a document's output must be printed, numbers aside; `…` stands for any lines."""
    shapes = {shape(line) for line in printed.splitlines()}
    for line in document_text.splitlines():
        if line.strip() and line.strip() != "…":
            assert shape(line) in shapes, f"{what} does not print {line!r}, but:\n{printed}"


class Cluster:
    """A cluster in one process, as `armilla up` starts it."""

    def __init__(self, where):
        self.base = free_ports(3)
        self.log = open(where / "up.log", "w+")
        command = [ARMILLA, "up", "--base-port", str(self.base)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, cwd=where)
        wait(lambda: "Ctrl-C stops the cluster" in self.printed(), "the cluster is up", self.printed)

    def printed(self):
        self.log.flush()
        return Path(self.log.name).read_text()

    @property
    def addr(self):
        return f"127.0.0.1:{self.base}"

    def here(self, text):
        """The text with this cluster's address in place of the documents'."""
        return text.replace("127.0.0.1:2379", self.addr)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.printed()


def wait(ready, what, details=lambda: ""):
    until = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < until, f"not within 60 s: {what}\n{details()}"
        time.sleep(0.1)


def http(addr, path):
    try:
        with urllib.request.urlopen(f"http://{addr}{path}", timeout=5) as answer:
            return answer.status
    except OSError:
        return 0


# --- what is done with a block -----------------------------------------------------------------------------------------


class World:
    """What the blocks share."""

    def __init__(self, where):
        self.where = where
        self.cluster = Cluster(where)
        self.failing_run = ""


def not_run(why):
    """A block that is not run."""

    def check(_world, _text):
        return f"not run: {why}"

    check.skipped = True
    return check


def picture(_world, _text):
    return "a picture"


def cargo(*expected, lines=None):
    """Runs the lines of a block that begin with `cargo sim` (setting up is not repeated)."""

    def check(world, text):
        commands = [line.split(" #")[0].split("&&")[-1].strip() for line in text.splitlines()]
        commands = commands if lines is None else [commands[at] for at in lines]
        printed = ""
        for command in commands:
            variables = dict(word.split("=", 1) for word in shlex.split(command) if re.match(r"[A-Z_]+=", word))
            words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
            variables = {name: str(world.where / value) for name, value in variables.items()}
            assert words[:2] == ["cargo", "sim"], f"not a command of the simulator: {command}"
            _, text = run(words, env={**os.environ, **variables})
            printed += text
        for one in expected:
            assert re.search(one, printed), f"{commands} do not print {one}, but:\n{printed}"
        world.failing_run = printed
        return f"ran {len(commands)} command(s)"

    return check


def printed_by_the_block_before(world, text):
    require_lines(text, world.failing_run, "the command")
    return "compared with what the commands above print"


def printed_by_up(world, text):
    require_lines(text, world.cluster.printed(), "`armilla up`")
    return "compared with what `armilla up` prints"


def python(world, text):
    interpreter = TARGET / "compat-venv" / "bin" / "python"
    assert interpreter.exists(), "the clients are not installed: run `.ci/test compat` first"
    code, printed = run([interpreter, "-c", world.cluster.here(text)], timeout=60)
    # tikv-client 0.0.4 sometimes crashes while the interpreter shuts down, after its work; docs/clients.md says so.
    crashed = code in (-signal.SIGABRT, -signal.SIGSEGV)
    assert (code == 0 or crashed) and "b'hello'" in printed, f"exit code {code}: {printed}"
    return "ran"


def go(world, text):
    if shutil.which("go") is None:
        return "skipped: no Go here"
    folder = world.where / "go"
    folder.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copy(ROOT / "tests" / "clients" / "go" / name, folder / name)
    (folder / "main.go").write_text(world.cluster.here(text))
    done = subprocess.run(["go", "run", "."], cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode != 0 and re.search(r"dial tcp|proxy|lookup ", done.stderr) and "127.0.0.1" not in done.stderr:
        return "skipped: no module proxy"
    assert done.returncode == 0 and "hello <nil>" in done.stdout, done.stdout + done.stderr
    return "ran"


def same_dependencies(_world, text):
    pom = (ROOT / "tests" / "clients" / "java" / "pom.xml").read_text()
    squeezed = re.sub(r"\s+", "", pom)
    for dependency in re.findall(r"<dependency>.*?</dependency>", text, re.S):
        assert re.sub(r"\s+", "", dependency) in squeezed, f"tests/clients/java does not use {dependency}"
    return "the same as in tests/clients/java"


def three_machines(world, text):
    """One node of a cluster of three as the document starts it, the other two likewise."""
    base, where = free_ports(3), Path(tempfile.mkdtemp(dir=world.where))
    running = []
    try:
        for node in range(3):
            line = text.replace("\\\n", " ").replace("n1 --data", f"n{node + 1} --data")
            line = line.replace("--addr 10.0.0.1:", f"--addr 10.0.0.{node + 1}:")
            line = line.replace("/var/lib/armilla", str(where / f"n{node + 1}"))
            for at, machine in enumerate(MACHINES):
                line = line.replace(machine, f"127.0.0.1:{base + at}")
            words = shlex.split(line)
            assert words[0] == "armilla"
            log = open(where / f"n{node + 1}.log", "w")
            running.append(subprocess.Popen([ARMILLA, *words[1:]], stdout=log, stderr=subprocess.STDOUT))
        for node in range(3):
            wait(lambda: http(f"127.0.0.1:{base + node}", "/readyz") == 200, f"node {node + 1} is ready")
    finally:
        for process in running:
            process.terminate()
        codes = [process.wait(60) for process in running]
    assert codes == [0, 0, 0], codes
    return "started three such nodes"


def config(world, text):
    """A configuration file: the node starts with it, and waits for the others of its cluster."""
    base, where = free_ports(3), Path(tempfile.mkdtemp(dir=world.where))
    text = text.replace("/var/lib/armilla", str(where / "data"))
    for at, machine in enumerate(MACHINES):
        text = text.replace(machine, f"127.0.0.1:{base + at}")
    (where / "armilla.toml").write_text(text)
    process = subprocess.Popen([ARMILLA, "start", "--config", where / "armilla.toml"], stderr=subprocess.PIPE, text=True)
    wait(lambda: http(f"127.0.0.1:{base}", "/livez") == 200 or process.poll() is not None, "the node answers")
    alive = process.poll() is None
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert alive, errors
    return "started a node with it"


def ctl(world, text):
    """Commands for a cluster, which must succeed."""
    lines = text.replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["armilla", "ctl"], line
        code, printed = run([ARMILLA, "ctl", "--pd", world.cluster.addr, *words[2:]], timeout=60)
        assert code == 0, f"{line}\n{printed}"
    return f"ran {len(lines)} command(s)"


def piped(world, text):
    """A command that gets its input by a pipe."""
    line = text.replace("armilla ctl", f"{shlex.quote(str(ARMILLA))} ctl --pd {world.cluster.addr}")
    code, printed = run(["sh", "-c", line], timeout=60)
    assert code == 0 and "committed at" in printed, f"{line}\n{printed}"
    return "ran"


def query_error(world, text):
    """The refusal of a query; its second line is the query."""
    query = text.splitlines()[1].strip()
    code, printed = run([ARMILLA, "ctl", "--pd", world.cluster.addr, "query", "--where", query], timeout=60)
    assert code != 0
    for line in text.splitlines():
        assert line.strip() in printed, f"not printed: {line!r}, but:\n{printed}"
    return "compared with the refusal"


def query_answer(_world, text):
    """The form of an answer: its names are those that the server writes."""
    for name in re.findall(r'"(\w+)":', text):
        assert name in (ROOT / "src" / "query" / "answer.rs").read_text(), f"no answer has {name}"
    return "compared the names"


class Tutorial:
    """The cluster of three processes that the tutorial starts, and its program."""

    def __init__(self):
        self.base, self.commands, self.nodes, self.where = 0, [], [], None

    def here(self, text):
        for at in range(3):
            text = text.replace(f"127.0.0.1:{2379 + at}", f"127.0.0.1:{self.base + at}")
        return text

    def launch(self, node):
        log = open(self.where / f"{node}.log", "a")
        return subprocess.Popen(self.commands[node], stdout=log, stderr=subprocess.STDOUT, cwd=self.where)

    def ctl(self, *words):
        return run([ARMILLA, "ctl", "--pd", f"127.0.0.1:{self.base + 1},127.0.0.1:{self.base + 2}", *words], timeout=60)

    def start(self, world, text):
        # Not earlier: the ports must be free of the other clusters.
        self.base = free_ports(3)
        self.where = world.where / "tutorial"
        self.where.mkdir()
        cluster = ""
        for line in text.splitlines():
            if line.startswith("export CLUSTER="):
                cluster = line.removeprefix("export CLUSTER=")
                continue
            words = shlex.split(self.here(line.replace("$CLUSTER", cluster)).split(" 2>")[0])
            assert words[0] == "target/release/armilla", line
            self.commands.append([ARMILLA, *words[1:]])
        self.nodes = [self.launch(node) for node in range(len(self.commands))]
        wait(lambda: self.ctl("status")[0] == 0, "the cluster is healthy", lambda: self.ctl("status")[1])
        return "started the nodes"

    def save(self, _world, text):
        (self.where / "count.py").write_text(self.here(text))
        return "saved the program, which runs below"

    def kill(self, _world, text):
        assert [line.split()[0].split("/")[-1] for line in text.splitlines()] == ["python", "armilla", "kill"]
        interpreter = TARGET / "compat-venv" / "bin" / "python"
        log = self.where / "printed"
        with log.open("w") as printed:
            program = subprocess.Popen([interpreter, self.where / "count.py"], stdout=printed, stderr=subprocess.STDOUT)
        said = lambda: f"exit code {program.poll()}, printed: {log.read_text()}; {self.ctl('get', 'count')[1]}"
        try:
            wait(lambda: self.ctl("get", "count")[0] == 0, "the program writes", said)
            time.sleep(1)
            code, printed = self.ctl("leader", "count")
            leader = [at for at in range(3) if f"127.0.0.1:{self.base + at}" in printed]
            assert code == 0 and len(leader) == 1, printed
            self.nodes[leader[0]].kill()
            code, printed = program.wait(timeout=120), log.read_text()
            assert code == 0 and "b'199'" in printed, printed
            assert re.search(r"write \d+ took \d+", printed), f"no write noticed the dead node: {printed}"
            self.nodes[leader[0]].wait()
            self.nodes[leader[0]] = self.launch(leader[0])
            wait(lambda: self.ctl("status")[0] == 0, "the cluster is healthy again", lambda: self.ctl("status")[1])
        finally:
            program.kill()
            for node in self.nodes:
                node.terminate()
            for node in self.nodes:
                node.wait(60)
        return f"the program survived: {printed.splitlines()}"


def trace(world, text):
    """A replay, and the lines of its trace about the group and the entry that the oracle names."""
    replay, search = text.splitlines()
    cargo("FAIL seed 1 ")(world, replay)
    failure = re.search(r"group (\d+) entry (\d+) ", world.failing_run)
    words = shlex.split(search)
    words[1] = f"group: {failure[1]}, .*index: {failure[2]}"
    code, printed = run(words)
    assert code == 0 and "Append" in printed and "Apply" in printed, printed
    world.failing_run = printed
    return "ran, with the group and the entry that this build's failure names"


def lines_of_the_trace(world, text):
    """Lines that the search above prints, cut at `…`; numbers aside."""
    printed = [shape(line) for line in world.failing_run.splitlines()]
    for line in text.splitlines():
        begins = shape(line.split("…")[0])
        assert any(one.startswith(begins) for one in printed), f"not printed: {line!r}, but:\n{world.failing_run}"
    return "compared with what the search prints"


def models(world, text):
    """Commands of the models; those with larger bounds take minutes and are left out."""
    commands = [line.split(" #")[0].strip() for line in text.splitlines()]
    commands = [command for command in commands if "--large" not in command]
    world.failing_run = ""
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["cargo", "models"], command
        code, printed = run(words)
        assert code == 0 or "--flaw" in words, f"{command}\n{printed}"
    return f"ran {len(commands)} command(s)"


def counterexample(_world, text):
    """A command behind `$`, and the beginning of each step that it prints."""
    lines = text.splitlines()
    _, printed = run(shlex.split(lines[0].removeprefix("$ ")))
    for line in lines[1:]:
        begins = line.split("…")[0].strip()
        assert not begins or begins in printed, f"not printed: {line!r}, but:\n{printed}"
    return "compared with what the command prints"


TUTORIAL = Tutorial()
SETUP_AND_CI = not_run("the first line is run above as `armilla up`, the second is the run that this is part of")
BLOCKS = [
    ("README.md", ".ci/setup && cargo sim", cargo(r"20 seeds, 0 failed")),
    ("README.md", ".ci/setup && cargo up", SETUP_AND_CI),
    ("README.md", "armilla 0.1.0: a new cluster", printed_by_up),
    ("README.md", "from tikv_client import RawClient", python),
    ("README.md", "armilla start --name n1", three_machines),
    ("README.md", "   tikv-client, tikv-python", picture),
    ("README.md", "cargo sim run --seeds 20 --mutant", cargo(r"FAIL seed 1 ")),
    ("README.md", "FAIL seed 1", printed_by_the_block_before),
    ("README.md", "armilla ctl query", ctl),
    ("CONTRIBUTING.md", ".ci/setup ", not_run("the same as in README.md")),
    ("CONTRIBUTING.md", "cargo sim replay 4711", cargo(r"4711", lines=[0, 2])),
    ("CONTRIBUTING.md", "ARMILLA_REWRITE=1", not_run("it writes into the sources; without the variable the steps run them")),
    ("ARCHITECTURE.md", "   TiKV's clients", picture),
    ("ARCHITECTURE.md", "  seed ──> plan", picture),
    ("docs/operating.md", "armilla start --name n1", three_machines),
    ("docs/operating.md", 'name = "n1"', config),
    ("docs/commands.md", ".ci/setup && cargo up", SETUP_AND_CI),
    ("docs/commands.md", "printf '%s", piped),
    ("docs/clients.md", "import tikv", python),
    ("docs/clients.md", "from tikv_client import TransactionClient", python),
    ("docs/clients.md", "use tikv_client::RawClient", not_run("tests/compat.rs makes the same calls with that crate")),
    ("docs/clients.md", "let config = tikv_client::Config", not_run("tests/compat/keyspaces.rs makes the same calls with that crate")),
    ("docs/clients.md", "package main", go),
    ("docs/clients.md", "<dependency>", same_dependencies),
    ("docs/clients.md", "import org.tikv", not_run("tests/clients/java makes the same calls with that client")),
    ("docs/performance.md", "cargo sim replay 8 --plan", not_run("cargo sim corpus replays the same plan")),
    ("docs/performance.md", "cargo bench --bench large", not_run("it writes gigabytes for minutes")),
    ("docs/tutorial.md", ".ci/setup && cargo build", not_run("the steps build and compat do")),
    ("docs/tutorial.md", "export CLUSTER=", TUTORIAL.start),
    ("docs/tutorial.md", "import os", TUTORIAL.save),
    ("docs/tutorial.md", "venv/bin/python count.py", TUTORIAL.kill),
    ("docs/tutorial.md", ".ci/setup && cargo sim run", not_run("the same as in README.md")),
    ("docs/tutorial.md", "cargo sim run --seeds 20 --mutant", cargo(r"FAIL seed 1 ")),
    ("docs/tutorial.md", "cargo sim replay 1", trace),
    ("docs/tutorial.md", "1425 ", lines_of_the_trace),
    ("docs/models.md", "cargo models list", models),
    ("docs/models.md", "$ cargo models run lease", counterexample),
    ("docs/json-queries.md", "armilla ctl query", ctl),
    ("docs/json-queries.md", "let mut ranges", not_run("tests/compat.rs pages through queries with that crate")),
    ("docs/json-queries.md", '{"rows"', query_answer),
    ("docs/json-queries.md", "where, line 1", query_error),
]


def main():
    documents = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    entries, failed, ran, skipped = list(BLOCKS), 0, 0, 0
    where = Path(tempfile.mkdtemp(prefix="armilla-documents-"))
    world = World(where)
    try:
        for document in documents:
            for _language, text in blocks(document):
                start = text.splitlines()[0] if text else ""
                entry = next((one for one in entries if one[0] == document and start.startswith(one[1])), None)
                try:
                    assert entry, f"no entry in tests/documents.py runs it or says why not:\n{text}"
                    entries.remove(entry)
                    result = entry[2](world, text)
                    print(f"ok      {document}: {start[:50]!r}: {result}")
                    skip = getattr(entry[2], "skipped", False) or result.startswith("skipped")
                    ran, skipped = (ran, skipped + 1) if skip else (ran + 1, skipped)
                except Exception as error:
                    failed += 1
                    print(f"FAILED  {document}: {start[:50]!r}: {error}")
        for document, start, _ in entries:
            failed += 1
            print(f"FAILED  {document} has no block that begins with {start!r}")
        world.cluster.stop()
    finally:
        if world.cluster.process.poll() is None:
            world.cluster.process.kill()
        shutil.rmtree(where, ignore_errors=True)
    print(f"{ran} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
