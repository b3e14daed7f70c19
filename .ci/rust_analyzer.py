#!/usr/bin/env python3
"""Drives rust-analyzer as an editor's test explorer does: every case known at build time is in its tree, and those that
it is asked to run get the states that run.json has for them.

    .ci/rust_analyzer.py [--server PROGRAM] [--run ID[=STATE]]...

ID is one of the tree (`kvm::cpuid_test::default`, `kvm::cpuid_test`, `kvm`), and STATE what it and all below it must come
to: passed, failed or skipped. Without any, one case is run and then a group. KERNEL_SRC and KVM_SELFTESTS have their meanings. rust-analyzer is rustup's component, or `cargo install
ra_ap_rust-analyzer --locked`. Needs Python 3.9 and nothing else.
"""

import argparse
import itertools
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "kvm"
LATEST = ROOT / "target/kvm-tests/latest"

# How long each answer may take, in seconds: a first start compiles the build scripts, a run everything.
PATIENCE = 1800

# A line of Cargo's that says so, in colour.
ERROR = re.compile(r"(\x1b\[[0-9;]*m)*error")

STATES = {"PASSED": "passed", "SKIPPED": "skipped", "FAILED": "failed", "TIMED_OUT": "failed", "NO_RUN": "failed"}


class Server:
    """A language server, spoken to in JSON-RPC over its pipes."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.received = queue.Queue()
        self.last_id = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        out = self.process.stdout
        while header := out.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                header = out.readline()
            self.received.put(json.loads(out.read(length)))
        self.received.put(None)

    def send(self, message):
        text = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        self.process.stdin.flush()

    def notify(self, method, params):
        self.send({"method": method, "params": params})

    def messages(self):
        """What it sends, for as long as it is asked for; its own requests are answered."""
        while True:
            try:
                message = self.received.get(timeout=PATIENCE)
            except queue.Empty:
                sys.exit(f"rust-analyzer said nothing for {PATIENCE} s")
            if message is None:
                sys.exit("rust-analyzer has ended")
            if "method" in message and "id" in message:
                items = message.get("params", {}).get("items")
                result = [None] * len(items) if message["method"] == "workspace/configuration" else None
                self.send({"id": message["id"], "result": result})
            else:
                yield message

    def request(self, method, params):
        """Its answer, and the notifications that came before that."""
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        before = []
        for message in self.messages():
            if message.get("id") == self.last_id:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"], before
            before.append(message)

    def stop(self):
        """Ends it as the protocol has it; whatever it still has to say is not read."""
        self.send({"id": "stop", "method": "shutdown"})
        self.notify("exit", None)
        self.process.wait(timeout=PATIENCE)


def wait_until_ready(server):
    server.request("initialize", {
        "processId": None,
        "rootUri": ROOT.as_uri(),
        "workspaceFolders": [{"uri": ROOT.as_uri(), "name": ROOT.name}],
        "capabilities": {"experimental": {"testExplorer": True, "serverStatusNotification": True}},
        # Nothing but what the test explorer needs.
        "initializationOptions": {"checkOnSave": False, "cachePriming": {"enable": False}, "procMacro": {"enable": False}},
    })
    server.notify("initialized", {})
    for message in server.messages():
        if message.get("method") == "experimental/serverStatus" and message["params"]["quiescent"]:
            print(f"rust-analyzer is {message['params']['health']}: {message['params'].get('message')}")
            return


def discover(server):
    """The IDs of the tree by their kinds, below the test target's root."""
    roots, _ = server.request("experimental/discoverTest", {"testId": None})
    if TARGET not in [root["id"] for root in roots["tests"]]:
        sys.exit(f"no test target {TARGET} among {[root['id'] for root in roots['tests']]}")
    found, _ = server.request("experimental/discoverTest", {"testId": TARGET})
    # The target itself is among them.
    items = [item for item in found["tests"] if item["id"] != TARGET]
    ids = {item["id"] for item in items}
    orphans = [item["id"] for item in items if item.get("parent") and item["parent"] not in ids | {TARGET}]
    if len(ids) != len(items) or orphans:
        sys.exit(f"{len(items)} items with {len(ids)} IDs, without a parent: {orphans}")
    return {kind: {item["id"] for item in items if item["kind"] == kind} for kind in ("test", "module")}


def run(server, id):
    """Runs what `id` names; the states that each case went through, by its ID."""
    latest = LATEST.resolve()
    _, before = server.request("experimental/runTest", {"include": [id], "exclude": None})
    states, said = {}, []
    for message in itertools.chain(before, server.messages()):
        params = message.get("params")
        if message.get("method") == "experimental/changeTestState":
            states.setdefault(params["testId"], []).append(params["state"])
        elif message.get("method") == "experimental/appendOutputToRunTest":
            said.append(params)
        elif message.get("method") == "experimental/endRunTest":
            # It may say once more that the run before this one has ended: it counts each end of Cargo's standard error
            # that it sees, and sees that again until the standard output has ended as well.
            if LATEST.resolve() != latest:
                return states
            if any(ERROR.match(line) for line in said):
                sys.exit("\n".join([f"{id} was not run:", *said]))


def check_states(id, states, wanted):
    outcomes = json.loads((LATEST / "run.json").read_text())["outcomes"]
    expected = {f"{TARGET}::{o['name']}": ["started", STATES[o["status"]]] for o in outcomes}
    found = {case: [state["tag"] for state in passed] for case, passed in states.items()}
    if found != expected:
        sys.exit(f"{id}: {found}, expected {expected}")
    silent = [case for case, passed in states.items() if passed[-1]["tag"] == "failed" and not passed[-1]["message"]]
    if silent:
        sys.exit(f"{id}: failed without a message: {silent}")
    asked_for = {case for case in found if id in (TARGET, case) or case.startswith(f"{id}::")}
    if not asked_for:
        sys.exit(f"{id}: not among what was run, {sorted(found)}")
    others = {case: found[case][-1] for case in asked_for if wanted and found[case][-1] != wanted}
    if others:
        sys.exit(f"{id}: should be {wanted}: {others}")
    last = [found[case][-1] for case in asked_for]
    counts = ", ".join(f"{last.count(state)} {state}" for state in sorted(set(last)))
    # It runs what has the ID as a part of its name.
    print(f"{id}: {counts}; with it ran {len(found) - len(asked_for)} others, all {len(found)} as in run.json")


def some(tree):
    """A case, and the smallest group with more than one."""
    def below(module):
        return sum(test.startswith(f"{module}::") for test in tree["test"])

    groups = [module for module in tree["module"] if below(module) > 1] or [TARGET]
    return [min(tree["test"]), min(groups, key=lambda group: (below(group), group))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="rust-analyzer", help="the language server; rust-analyzer")
    parser.add_argument("--run", metavar="ID[=STATE]", action="append", help="what to run, and what to expect")
    options = parser.parse_args()

    listed, known = names(), names("--include-ignored")
    if not listed:
        sys.exit("nothing is listed")

    server = Server(options.server)
    try:
        check(server, listed, known, options.run)
    finally:
        server.stop()


def names(*options):
    """What the program lists, as the tree has it."""
    command = ["cargo", "test", "--quiet", "--", "--list", "--format", "terse", *options]
    # As rust-analyzer has it, so that nothing is built twice.
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1"}
    listing = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {f"{TARGET}::{line.removesuffix(': test')}" for line in listing.splitlines() if line.endswith(": test")}


def check(server, listed, known, runs):
    """The tree has every case on this host, and of those in environments the ones that this host can be in."""
    wait_until_ready(server)
    tree = discover(server)
    missing, more = listed - tree["test"], tree["test"] - known
    print(f"{len(tree['test'])} cases in {len(tree['module'])} modules, {len(listed)} are listed on this host")
    if missing or more:
        sys.exit(f"missing {sorted(missing)}, not listed {sorted(more)}")
    for wanted in runs or some(tree):
        id, _, state = wanted.partition("=")
        check_states(id, run(server, id), state)


main()
