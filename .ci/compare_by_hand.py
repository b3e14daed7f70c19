"""Runs every selftest of a run.json again by hand, and compares the exits one by one."""

import json
import shlex
import subprocess
import sys

STATUS = {0: "PASSED", 4: "SKIPPED"}

outcomes = json.load(open(sys.argv[1]))["outcomes"]
different = []
for outcome in outcomes:
    command = outcome["reproduce"]
    by_hand = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=120).returncode
    # The shell runs the selftest as its last command: a signal is 128 + its number, or negative where it was replaced.
    exit = outcome["exit"] or {}
    ours = exit.get("code", 128 + exit["signal"]["signal"] if "signal" in exit else None)
    if by_hand < 0:
        by_hand = 128 - by_hand
    status = STATUS.get(by_hand, "FAILED")
    if ours != by_hand or outcome["status"] != status:
        different.append(f"{outcome['name']}: {outcome['status']} with {ours}, by hand {by_hand}: {shlex.quote(command)}")
    if outcome["status"] == "FAILED" and not outcome["reason"]:
        different.append(f"{outcome['name']}: no reason")
print(f"{len(outcomes)} selftests run by hand, {len(different)} different")
sys.exit("\n".join(different) or 0)
