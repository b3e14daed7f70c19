"""What `kvm-tests compare` must say of two runs of the same selftests, and of one with a selftest that fails otherwise.

usage: comparison.py check OLD NEW [CASE]      nothing changed but what varies, and but for CASE, which fails otherwise
       comparison.py known RUN CASE           all that failed in RUN is known, but for CASE
       comparison.py replace RUN OLD NEW       copies the selftests OLD to NEW, where one that failed in RUN does so
                                               with another assertion; prints the name of its case
"""

import json
import pathlib
import shutil
import subprocess
import sys

# Known to vary from run to run, also where nothing else uses the machine: see docs/compare.md.
VARY = {"dirty_log_test::default", "dirty_log_perf_test::default"}

OTHERWISE = "this_holds_nowhere(run) == 4711"


def check(old, new, replaced=None):
    command = ["target/debug/kvm-tests", "compare", old, new]
    print(subprocess.run(command, capture_output=True, text=True).stdout)
    ran = subprocess.run([*command, "--format", "json"], capture_output=True, text=True)
    comparison = json.loads(ran.stdout)
    told = comparison["changes"]
    compared = {change["name"] for change in told} | set(comparison["unchanged"])
    cases = {outcome["name"] for run in (old, new) for outcome in outcomes(run)}
    changed = {change["name"]: change["kind"] for change in told if change["kind"] != "same_failure"}
    expected = {replaced: "different_failure"} if replaced else {}
    surprises = {name: kind for name, kind in changed.items() if name not in VARY} != expected
    if replaced and not surprises:
        change = next(change for change in told if change["name"] == replaced)
        surprises = [f["signature"]["assertion"]["expression"] for f in change["new"]["failures"]] != [OTHERWISE]
    if surprises or compared != cases or ran.returncode != int(comparison["worse"]) or (expected and not comparison["worse"]):
        sys.exit(f"exit status {ran.returncode}, {len(compared)} of {len(cases)} cases, changed {changed}, expected {expected}")


def known(run, replaced):
    failed = {o["name"] for o in outcomes(run) if o["status"] in ("FAILED", "TIMED_OUT") and "known" not in o}
    if failed != {replaced}:
        sys.exit(f"failed, and not known: {failed}; expected {replaced}")


def replace(run, old, new):
    failed = next(o for o in outcomes(run) if o["status"] == "FAILED" and o["assertion"] and o["name"] not in VARY)
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(old, new, symlinks=True)
    selftest = pathlib.Path(new, "kvm", failed["suite"])
    printed = (pathlib.Path(run) / failed["output"] / "command.stderr").read_text()
    otherwise = printed.replace(failed["assertion"]["expression"], OTHERWISE)
    selftest.with_suffix(".stderr").write_text(otherwise)
    selftest.unlink()
    selftest.write_text(f"#!/bin/sh\ncat \"$0.stderr\" >&2\nexit {failed['exit']['code']}\n")
    selftest.chmod(0o755)
    print(failed["name"])


def outcomes(run):
    return json.loads((pathlib.Path(run) / "run.json").read_text())["outcomes"]


{"check": check, "known": known, "replace": replace}[sys.argv[1]](*sys.argv[2:])
