#!/usr/bin/env python3
"""Reads the reports of a run with the tools that others have, and compares their counts with run.json's.

usage: KERNEL_SRC=DIR readers.py KVM-TESTS RUN        (packages junitparser, xmlschema, jsonschema, kcidb-io, tmt)
"""
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree
from collections import Counter

import jsonschema
import junitparser
import kcidb_io
import tmt.utils
import xmlschema

sys.path.insert(0, os.environ["KERNEL_SRC"] + "/tools/testing/kunit")
import kunit_parser

here = pathlib.Path(__file__).parent
program, run = sys.argv[1], pathlib.Path(sys.argv[2])
WORDS = {"PASSED": "SUCCESS", "SKIPPED": "SKIPPED", "FAILED": "FAILURE", "TIMED_OUT": "FAILURE", "NO_RUN": "FAILURE"}
KCIDB = {"PASSED": "PASS", "SKIPPED": "SKIP", "FAILED": "FAIL", "TIMED_OUT": "FAIL", "NO_RUN": "MISS"}
TMT = {"PASSED": "pass", "SKIPPED": "skip", "FAILED": "fail", "TIMED_OUT": "fail", "NO_RUN": "error"}


def printed(*form):
    return subprocess.run([program, "report", run, *form], check=True, capture_output=True, text=True).stdout


def leaves(outcome):
    """The words that a case counts by in KTAP: as docs/formats.md has it."""
    words = {"ok": "SUCCESS", "not_ok": "FAILURE", "skip": "SKIPPED", "todo": "SUCCESS", "xpass": "SUCCESS"}

    def add_up(found):
        return next((word for word in ("FAILURE", "SUCCESS") if word in found), "SKIPPED")

    def level(subtests, own):
        """`subtests` are (path, word), inner ones before their parent."""
        tops, count = [], Counter()
        while subtests:
            path, word = subtests.pop()
            inner = []
            while subtests and subtests[-1][0].startswith(path + "/"):
                inner.insert(0, subtests.pop())
            count += level(inner, word)
            tops.append(word)
        if not tops:
            return Counter([own])
        if add_up(tops) != own:
            count[own] += 1
        return count

    return level([(s["name"], words[s["result"]]) for s in outcome["subtests"]], WORDS[outcome["status"]])


expected = json.loads((run / "run.json").read_text())["outcomes"]
statuses = Counter(outcome["status"] for outcome in expected)
document = json.loads(printed("--format", "kcidb", "--origin", "ci", "--build-id", "b"))
kcidb_io.schema.LATEST.validate(document)
assert [test["status"] for test in document["tests"]] == [KCIDB[outcome["status"]] for outcome in expected]

results = tmt.utils.yaml_to_list(printed("--format", "tmt"))
schema = tmt.utils.load_schema(tmt.utils.Path("results.yaml"))
jsonschema.Draft4Validator(schema, resolver=jsonschema.RefResolver("", schema, tmt.utils.load_schema_store())).validate(results)
assert [result["result"] for result in results] == [TMT[outcome["status"]] for outcome in expected]

junit = run / "junit.xml"
xml.etree.ElementTree.parse(junit)
xmlschema.XMLSchema(here / "junit.xsd").validate(junit)
suites = junitparser.JUnitXml.fromfile(str(junit))
cases = [case for suite in suites for case in suite]
assert suites.tests == len(cases) == len(expected)
assert suites.skipped == sum(case.is_skipped for case in cases) == statuses["SKIPPED"]
assert suites.failures == sum(case.is_failure for case in cases)
assert suites.failures == sum(statuses[status] for status in ("FAILED", "TIMED_OUT", "NO_RUN"))
junit_names = Counter(f"{case.classname.removeprefix('kvm.').replace('.', '::')}::{case.name}" for case in cases)
assert junit_names == Counter(outcome["name"] for outcome in expected)

said = io.StringIO()
with contextlib.redirect_stdout(said), open(run / "results.ktap", encoding="utf-8") as ktap:
    test = kunit_parser.parse_run_tests(ktap)
assert test.counts.errors == 0 and test.counts.crashed == 0, said.getvalue()
assert "[ERROR]" not in said.getvalue(), said.getvalue()
of_cases = {f"{suite.name}::{case.name}": case.status.name for suite in test.subtests for case in suite.subtests}
assert of_cases == {outcome["name"]: WORDS[outcome["status"]] for outcome in expected}, of_cases
total = sum((leaves(outcome) for outcome in expected), Counter())
counts = {"SUCCESS": test.counts.passed, "SKIPPED": test.counts.skipped, "FAILURE": test.counts.failed}
assert counts == {word: total[word] for word in counts}, (counts, total)
print(f"{run}: {len(expected)} cases {dict(statuses)}, in KTAP {test.counts.total()} with sub-tests")
