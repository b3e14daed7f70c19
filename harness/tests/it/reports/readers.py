#!/usr/bin/env python3
"""Reads the reports of a run with the tools that others have, and compares their counts with run.json's.

usage: KERNEL_SRC=DIR readers.py RUN        (packages junitparser, xmlschema, jsonschema)
"""
import contextlib
import io
import json
import os
import pathlib
import sys
import xml.etree.ElementTree
from collections import Counter

import jsonschema
import junitparser
import xmlschema

sys.path.insert(0, os.environ["KERNEL_SRC"] + "/tools/testing/kunit")
import kunit_parser

here = pathlib.Path(__file__).parent
run = pathlib.Path(sys.argv[1])
WORDS = {"PASSED": "SUCCESS", "SKIPPED": "SKIPPED", "FAILED": "FAILURE", "TIMED_OUT": "FAILURE", "NO_RUN": "FAILURE"}


def outcomes():
    """Those of run.json, or of the journal where the run did not come to its end."""
    record = json.loads((run / "run.json").read_text())
    check("run.schema.json", [record])
    lines = (run / "journal.jsonl").read_text().splitlines() if (run / "journal.jsonl").exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    check("journal.schema.json", whole)
    if record["finished"]:
        return record["outcomes"]
    known = {}
    for entry in whole:
        if entry["event"] == "started":
            known.setdefault(entry["outcome"]["name"], entry["outcome"] | {"status": "NO_RUN"})
        elif entry["event"] == "finished":
            known[entry["outcome"]["name"]] = entry["outcome"]
    return list(known.values())


def check(name, documents):
    schema = json.loads((here / "../../../kvm-tests" / name).read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for document in documents:
        validator.validate(document)


def leaves(outcome):
    """The words that a case counts by in KTAP: as FORMATS.md has it."""
    words = {"ok": "SUCCESS", "not_ok": "FAILURE", "skip": "SKIPPED", "todo": "SUCCESS"}

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


expected = outcomes()
statuses = Counter(outcome["status"] for outcome in expected)

junit = run / "junit.xml"
xml.etree.ElementTree.parse(junit)
xmlschema.XMLSchema(here / "junit.xsd").validate(junit)
suites = junitparser.JUnitXml.fromfile(str(junit))
cases = [case for suite in suites for case in suite]
assert suites.tests == len(cases) == len(expected)
assert suites.skipped == sum(case.is_skipped for case in cases) == statuses["SKIPPED"]
assert suites.failures == sum(case.is_failure for case in cases)
assert suites.failures == sum(statuses[status] for status in ("FAILED", "TIMED_OUT", "NO_RUN"))
assert Counter(f"{case.classname}::{case.name}" for case in cases) == Counter(o["name"] for o in expected)

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
