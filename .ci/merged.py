"""Looks whether nothing is lost of a run that kvm-tests/fleet made, one of whose nodes died in the middle."""

import json
import os
import sys

directory, dead = sys.argv[1:]
plan = json.load(open(f"{directory}/plan.json"))["planned"]
run = json.load(open(f"{directory}/merged/run.json"))
outcomes = run["outcomes"]

planned = sorted((case["suite"], case["variant"]) for case in plan["cases"])
ended = sorted((one["suite"], one["variant"]) for one in outcomes if one["status"] != "NO_RUN")
assert planned == ended, f"planned {planned}, ended {ended}"
lost = [one["name"] for one in outcomes if not os.path.isdir(f"{directory}/merged/{one['output']}")]
assert not lost, f"no output of {lost}"

nodes = {}
for part in run["parts"]:
    nodes.setdefault(part["part"]["shard"], []).append(part["part"]["host"]["hostname"])
assert sorted(map(len, nodes.values())) == [1, 2], nodes
(held,) = [one for one in outcomes if one["suite"] == "its_node_dies_test"]
assert held["status"] == "PASSED" and held["host"] != dead, held
before = sum(one["host"] == dead for one in outcomes)
assert before > 0, "it died before a case had ended"
print(f"{len(planned)} cases, none lost; {before} of them had ended when {dead} died; shards on {nodes}")
