"""Compares the table of features with the parameters that KVM's modules have in Debian's kernels.

usage: parameters.py PROGRAM KERNEL...      folders of unpacked kernels, the newest one last

Lists the parameters of the newest that are no feature, and those of features that it does not have any more. Fails where a
feature's parameter is in none of the kernels.
"""

import pathlib
import re
import subprocess
import sys

# Those need CONFIG_KVM_AMD_SEV, which Debian's kernels for clouds do not have.
NOT_THERE = {"kvm_amd.sev", "kvm_amd.sev_es"}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def parameters(kernel):
    found = set()
    for module in ("kvm", "kvm_amd", "kvm_intel"):
        file = next(pathlib.Path(kernel).rglob(f"{module.replace('_', '-')}.ko*"))
        lines = output("modinfo", "-p", str(file)).splitlines()
        found |= {f"{module}.{line.split(':')[0]}" for line in lines if ":" in line}
    return found


def features(program):
    rows = [line for line in output(program, "environments").splitlines() if line.startswith("| `")]
    of_x86 = [cell for row in rows for cell in row.split("|")[3:5]]
    return {name for cell in of_x86 for name in re.findall(r"`(kvm\w*\.\w+)`", cell)}


program, *kernels = sys.argv[1:]
ours = features(program)
theirs = [parameters(kernel) for kernel in kernels]
newest = theirs[-1]
assert len(ours) > 30 and len(newest) > 60, (ours, newest)
print(f"{len(ours)} parameters of features, {len(newest)} of the newest kernel")
print("no feature:", *sorted(newest - ours))
print("not in the newest kernel:", *sorted(ours - newest))
unknown = ours.difference(NOT_THERE, *theirs)
if unknown:
    sys.exit(f"in none of the kernels: {' '.join(sorted(unknown))}")
