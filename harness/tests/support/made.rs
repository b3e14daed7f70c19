//! Runs that never happened, as run.json has them: for the tests of whatever reads a run.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

/// When all of them began, in milliseconds since the epoch: 2023-11-14 22:13:20 UTC.
pub(crate) const STARTED_MS: u64 = 1_700_000_000_000;

/// A run of these cases that came to its end.
pub(crate) fn run(outcomes: &[Value]) -> Value {
    json!({
        "schema_version": 2,
        "parts": [{"part": part(), "end": end()}],
        "selected": outcomes.len(),
        "outcomes": outcomes,
        "environments": [],
        "splats": [],
        "finished": true,
    })
}

fn part() -> Value {
    json!({
        "id": "part",
        "schema_version": 2,
        "version": "0.1.0",
        "command_line": ["kvm-tests", "run", "a b"],
        "options": ["a b"],
        "directory": "/work",
        "started_ms": STARTED_MS,
        "pid": 7,
        "host": {
            "hostname": "lab",
            "kernel": "6.12.1",
            "kernel_version": "#1 SMP",
            "machine": "x86_64",
            "cpu_vendor": "GenuineIntel",
            "cpu_model": "a model",
            "cpus": 2,
            "memory": 1_u64 << 32,
            "free_hugepages": {"2097152": 0},
            "kvm_problem": null,
            "modules": {"kvm_intel": {"ept": "Y"}},
            "taint": 0,
        },
        "selftests": ["/selftests"],
        "workers": 2,
        "shuffle_seed": null,
        "nextest_run_id": null,
        "resumes": false,
    })
}

fn end() -> Value {
    json!({
        "at_ms": STARTED_MS + 12_500,
        "duration_s": 12.5,
        "interrupted_by": null,
        "kernel": {
            "owned": 0, "stray": 0, "of_others": 0, "ignored": 0, "lost": 0, "problem": null, "taint": 0,
        },
        "left_behind": [],
        "not_restored": [],
    })
}

/// The case `name` (`suite::variant`) on the host as it is, with this status and reason.
pub(crate) fn outcome(name: &str, status: &str, reason: &str) -> Value {
    let (suite, variant) = name.split_once("::").unwrap();
    let exit = match status {
        "PASSED" => json!({"code": 0}),
        "SKIPPED" => json!({"code": 4}),
        "FAILED" => json!({"code": 1}),
        "TIMED_OUT" => json!("timeout"),
        _ => json!(null),
    };
    json!({
        "name": name,
        "environment": null,
        "suite": suite,
        "variant": variant,
        "iteration": null,
        "status": status,
        "reason": Some(reason).filter(|reason| !reason.is_empty()),
        "exit": exit,
        "pid": 4711,
        "started_ms": STARTED_MS,
        "duration_s": 0.25,
        "user_s": 0.125,
        "system_s": 0.0625,
        "max_rss": 8 << 20,
        "worker": 0,
        "output": name.replace("::", "/"),
        "reproduce": format!("cd /selftests && /selftests/{suite}"),
        "assertion": null,
        "subtests": [],
        "leaks": [],
    })
}

/// The same case in an environment.
pub(crate) fn inside(environment: &str, outcome: &Value) -> Value {
    let text = |name: &str| outcome[name].as_str().unwrap();
    let by_hand = format!(
        "kvm-tests with {environment} -- sh -c '{}'",
        text("reproduce")
    );
    with(
        outcome,
        json!({
            "name": format!("{environment}::{}", text("name")),
            "environment": environment,
            "output": format!("{environment}/{}", text("output")),
            "reproduce": by_hand,
        }),
    )
}

/// One of several iterations of a case.
pub(crate) fn iteration(number: u32, outcome: &Value) -> Value {
    let name = format!("{}::iteration_{number}", outcome["name"].as_str().unwrap());
    with(outcome, json!({"name": name, "iteration": number}))
}

/// A failed assertion of a case, with the reason that says so.
pub(crate) fn asserting(
    name: &str,
    file: &str,
    line: u32,
    expression: &str,
    message: &str,
) -> Value {
    let failed = outcome(
        name,
        "FAILED",
        &format!("{file}:{line}: {expression}\n{message}"),
    );
    let assertion = json!({
        "file": file, "line": line, "expression": expression, "message": message, "errno": 4, "caller": null,
    });
    with(
        &failed,
        json!({"exit": {"code": 254}, "assertion": assertion}),
    )
}

/// `value` with these members instead of its own.
pub(crate) fn with(value: &Value, members: Value) -> Value {
    let mut changed = value.clone();
    let Value::Object(members) = members else {
        panic!("these are no members: {members}")
    };
    changed.as_object_mut().unwrap().extend(members);
    changed
}

/// What no test should print.
pub(crate) const HOSTILE: &str = "]]></script><script>alert(1)</script><!-- <![CDATA[ \" onerror=\"x ' & &amp; \0 \x1b[31m \
    \x1b]0;t\x07 \r \u{202e}evil\u{2066} \u{feff} \u{85} \u{fffe} \u{1ffff} \u{5d0} </system-out></pre><img src=x>\t\
    reboot: System halted\nKTAP version 1\n# Subtest: x\n";

/// A run with every status, and an environment.
pub(crate) fn everything() -> Value {
    let crash = outcome("crash::default", "FAILED", "killed by SIGSEGV");
    run(&[
        outcome("plain::passes", "PASSED", ""),
        outcome("plain::skipped", "SKIPPED", "no such thing\nat all"),
        outcome("plain::fails", "FAILED", "a.c:7: x == y\nerrno 1: told"),
        outcome("plain::hangs", "TIMED_OUT", "did not end in its time"),
        outcome("plain::never", "NO_RUN", "setup failed"),
        outcome("skipped::default", "SKIPPED", ""),
        with(
            &crash,
            json!({"exit": {"signal": {"signal": 11, "core_dumped": true}}}),
        ),
        inside("shadow", &outcome("plain::passes", "PASSED", "")),
    ])
}

/// A run whose every text is hostile.
pub(crate) fn hostile() -> Value {
    let names = ["a::b", "c::d", "e::f"].map(|name| outcome(name, "FAILED", HOSTILE));
    let outcomes = names.iter().map(|outcome| {
        let name = format!("{}{HOSTILE}", outcome["name"].as_str().unwrap());
        let subtests = ["ok", "not_ok", "not_ok"]
            .map(|result| json!({"name": HOSTILE, "result": result, "reason": HOSTILE}));
        let splat = json!({"name": HOSTILE, "title": HOSTILE, "at_us": 1, "lines": [HOSTILE], "while_running": [HOSTILE]});
        let members = json!({
            "name": name, "environment": HOSTILE, "variant": name, "reproduce": HOSTILE, "subtests": subtests,
            "assertion": {"file": HOSTILE, "line": 1, "expression": HOSTILE, "message": HOSTILE, "errno": null},
            "leaks": [{"pid": -1, "command": HOSTILE, "unkillable": true}], "splats": [splat],
        });
        with(outcome, members)
    });
    let mut outcomes: Vec<_> = outcomes.collect();
    outcomes[2] = with(
        &outcomes[2],
        json!({"status": "SKIPPED", "environment": null}),
    );
    let span = json!({
        "environment": HOSTILE, "part": HOSTILE, "settings": [HOSTILE], "notes": [HOSTILE], "modules": {HOSTILE: {HOSTILE: "x"}},
        "entering_ms": 1, "entered_ms": u64::MAX, "leaving_ms": null, "left_ms": 5, "problem": HOSTILE,
    });
    let mut run = with(
        &run(&outcomes),
        json!({"environments": [span], "splats": [outcomes[0]["splats"][0]]}),
    );
    let host = &mut run["parts"][0]["part"]["host"];
    for name in [
        "hostname",
        "kernel",
        "cpu_model",
        "kvm_problem",
        "command_line",
    ] {
        host[name] = json!(HOSTILE);
    }
    host["modules"] = json!({HOSTILE: {HOSTILE: HOSTILE}});
    run["parts"][0]["part"]["command_line"] = json!([HOSTILE]);
    run
}

/// A directory with this run, and with these files (`SUITE/VARIANT/command.stdout`).
pub(crate) fn kept(run: &Value, files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("run.json"), run.to_string()).unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}
