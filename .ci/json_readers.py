"""Gives a run's `--format json` to the programs that read libtest's, and compares their counts with run.json's.

usage: json_readers.py EVENTS RUN_JSON BIN      (BIN: where cargo2junit and junitify are)
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter

events, run_json, programs = sys.argv[1:]
outcomes = json.load(open(run_json))["outcomes"]
statuses = Counter(outcome["status"] for outcome in outcomes)
expected = {
    "tests": len(outcomes),
    "failures": sum(statuses[status] for status in ("FAILED", "TIMED_OUT", "NO_RUN")),
    "skipped": statuses["SKIPPED"],
    "names": sorted(outcome["name"] for outcome in outcomes),
}


def read_by_cargo2junit():
    with open(events) as text:
        ran = subprocess.run([f"{programs}/cargo2junit"], stdin=text, capture_output=True)
    suites = list(ElementTree.fromstring(ran.stdout))
    # So it says that something failed.
    assert ran.returncode == int(expected["failures"] > 0), ran.stderr
    cases = [case for suite in suites for case in suite.iter("testcase")]
    assert sum(int(suite.get("errors")) for suite in suites) == 0
    assert sum(int(suite.get("tests")) for suite in suites) == len(cases)
    assert sum(int(suite.get("failures")) for suite in suites) == sum(case.find("failure") is not None for case in cases)
    return {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
        # It takes a name apart where the case was run.
        "names": sorted("::".join(filter(None, [case.get("classname"), case.get("name")])) for case in cases),
    }


def read_by_junitify():
    with tempfile.TemporaryDirectory() as directory:
        with open(events) as text:
            subprocess.run([f"{programs}/junitify", "--out", directory], stdin=text, check=True)
        suites = [ElementTree.parse(file).getroot() for file in pathlib.Path(directory).glob("*.xml")]
    counts = {name: sum(int(suite.get(name)) for suite in suites) for name in ("tests", "failures", "skipped")}
    cases = [case for suite in suites for case in suite.iter("testcase")]
    assert counts["failures"] == sum(case.find("failure") is not None for case in cases)
    return counts | {"names": sorted(case.get("name") for case in cases)}


for reader in (read_by_cargo2junit, read_by_junitify):
    found = reader()
    if found != expected:
        sys.exit(f"{reader.__name__}: {found}, expected {expected}")
print(f"{len(outcomes)} cases in JSON, read by cargo2junit and junitify: {dict(statuses)}")
