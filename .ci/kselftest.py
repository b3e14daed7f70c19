"""Reads what run_kselftest.sh printed, this program's (OURS) and the kernel's own (THEIRS), as CIs do.

usage: kselftest.py LIST OURS THEIRS        LIST is kselftest-list.txt as it was then
"""

import re
import subprocess
import sys

PATTERNS = {
    "LISA": r"^(not ok|ok)\s+\d+\s+selftests:\s+\S+:\s+(\S+)",
    "lkp": r"^(ok|not ok).*selftests: (.+)",
    "openQA": r"^(not )?ok \d+ selftests: \S+: \S+",
}
NIPA = r"\nnot ok \d+( \d+)? selftests: "
TAP = "use TAP::Parser; local $/; my $p = TAP::Parser->new({tap => <STDIN>}); $p->run; print join ' ', scalar($p->parse_errors), $p->tests_run"
RESULT = re.compile(r"^((?:not )?ok) \d+ selftests: (\S+): (\S+)(.*)$", re.MULTILINE)


def results(path):
    text = open(path, encoding="utf-8", errors="replace").read()
    return {f"{collection}:{test}": f"{word}{rest}" for word, collection, test, rest in RESULT.findall(text)}


tests, ours, theirs = open(sys.argv[1]).read().split(), sys.argv[2], sys.argv[3]
text = open(ours, encoding="utf-8").read()
for whose, pattern in PATTERNS.items():
    found = len(re.findall(pattern, text, re.MULTILINE))
    print(f"{whose}: {found} of {len(tests)} cases found")
    assert found == len(tests), whose
failed = len(re.findall(NIPA, text))
assert failed == sum(result.startswith("not ok") for result in results(ours).values()), "NIPA"
read = subprocess.run(["perl", "-e", TAP], input=text, check=True, capture_output=True, text=True).stdout
assert read == f"0 {len(tests)}", f"TAP::Parser: {read}"
assert sorted(results(ours)) == sorted(tests), "another list"

compared = results(theirs)
different = [f"{test}: {results(ours).get(test)}, the kernel's own script: {theirs}" for test, theirs in compared.items() if results(ours).get(test) != theirs]
print(f"{len(compared)} results compared with those of the kernel's own script, {len(different)} different; {failed} failed")
sys.exit("\n".join(different) or 0 if compared else "nothing to compare")
