"""Looks at a run in which two guests were the places and one case panics its guest's kernel."""

import glob
import json
import os
import re
import sys

# In seconds: within this time after a panic the run is to know of it, and to be over.
PROMISED = 60


def panics_of(journal):
    """When the case that panics was started in a part that died, and when the run knew of the death."""
    events = [json.loads(line) for line in open(journal)]
    steps = [event["step_started"] for event in events if "step_started" in event]
    started = [step["at_ms"] / 1000 for step in steps if "panics::" in step["case"]]
    ends = [event["part_ended"] for event in events if "part_ended" in event]
    return [(started[-1], end["at_ms"] / 1000) for end in ends if end.get("died") and started]


run = json.load(open(f"{sys.argv[1]}/run.json"))
found = {one["name"]: one["status"] for one in run["outcomes"]}
expected = {
    "svm_vmcall_test": ("PASSED", "SKIPPED"),
    "pre_fault_memory_test": ("SKIPPED", "PASSED"),
    "cpuid_test": ("PASSED", "PASSED"),
}
for selftest, statuses in expected.items():
    for environment, status in zip(("shadow_mmu", "nested_off"), statuses):
        name = f"{environment}::{selftest}::default"
        assert found[name] == status, f"{name}: wanted {status}, found {found[name]}"
panics = [one for one in run["outcomes"] if one["suite"] == "panics"]
assert panics and all(one["status"] == "FAILED" and "died twice" in one["reason"] for one in panics), panics
titles = [splat["title"] for splat in run["splats"]]
assert any(re.search("sysrq|panic", title, re.IGNORECASE) for title in titles), titles
times = [time for journal in glob.glob(f"{sys.argv[1]}/journal/0*.jsonl") for time in panics_of(journal)]
known = max(death - panic for panic, death in times)
over = os.path.getmtime(f"{sys.argv[1]}/run.json") - min(panic for panic, _ in times)
print(f"known {known:.1f} s after a panic, over {over:.0f} s after the first one; promised {PROMISED}")
assert known <= PROMISED, times
if over > PROMISED:
    print("SLOWER THAN PROMISED")
print(f"{len(found)} cases as they should be; of those that panicked: {panics[0]['reason']}; {titles[0]}")
