"""Looks at a run in which two guests were the places and one case panics its guest's kernel."""

import json
import re
import sys

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
print(f"{len(found)} cases as they should be; of those that panicked: {panics[0]['reason']}; {titles[0]}")
