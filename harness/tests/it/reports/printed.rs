//! The forms of a run that are printed: for KCIDB and for tmt.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::reports::program;
use crate::support::Ran;
use crate::support::made::{everything, inside, kept, outcome, run};

#[test]
fn in_kcidb_each_case_is_a_test_of_the_build_with_its_environment() {
    let failed = outcome("suite::sweep::vcpus_4", "FAILED", "a.c:7: x == y");
    let strange = outcome("é.x::b c", "NO_RUN", "why");
    let directory = kept(&run(&[inside("shadow", &failed), strange]), &[]);
    let arguments = [
        "report",
        ".",
        "--format",
        "kcidb",
        "--origin",
        "lab",
        "--build-id",
        "b1",
    ];
    let ran = program(&arguments, directory.path());
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let expected = json!({
        "id": "lab:1700000000000-lab-shadow::suite::sweep::vcpus_4",
        "build_id": "lab:b1",
        "origin": "lab",
        "path": "kselftest.kvm.suite.sweep.vcpus_4",
        "status": "FAIL",
        "duration": 0.25,
        "start_time": "2023-11-14T22:13:20Z",
        "environment": {"comment": "lab", "misc": {"environment": "shadow"}},
        "misc": {
            "status": "FAILED",
            "reproduce": "kvm-tests with shadow -- sh -c 'cd /selftests && /selftests/suite'",
        },
        "log_excerpt": "a.c:7: x == y",
    });
    let tests = &document["tests"];
    assert_eq!(tests[0], expected);
    let told = ["path", "status"].map(|name| tests[1][name].as_str().unwrap());
    assert_eq!(told, ["kselftest.kvm.__x.b_c", "MISS"]);
    assert_eq!(
        tests[1]["environment"]["misc"],
        json!({"module.kvm_intel": "ept=Y"})
    );
    assert_eq!(
        document["builds"][0]["checkout_id"],
        document["checkouts"][0]["id"]
    );
}

#[test]
fn for_tmt_each_case_is_a_result_with_its_reason_and_its_outputs() {
    let data = tempfile::tempdir().unwrap();
    let place = data.path().join("run");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("run.json"), everything().to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    let command = command
        .args(["report", ".", "--format", "tmt"])
        .current_dir(&place);
    let ran = Ran::of(command.env("TMT_TEST_DATA", data.path()).output().unwrap());
    let written = fs::read_to_string(data.path().join("results.yaml")).unwrap();
    assert_eq!((ran.code, &ran.stdout), (Some(0), &written));
    let results: Value = serde_json::from_str(&written).unwrap();
    let words: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["result"])
        .collect();
    assert_eq!(
        words,
        [
            "pass", "skip", "fail", "fail", "error", "skip", "fail", "pass"
        ]
    );
    let expected = json!({
        "name": "/plain/fails",
        "result": "fail",
        "note": ["a.c:7: x == y", "errno 1: told"],
        "duration": "00:00:00",
        "start-time": "2023-11-14T22:13:20.000Z",
        "log": ["run/plain/fails/command.stdout", "run/plain/fails/command.stderr"],
    });
    assert_eq!(results[2], expected);
    assert!(!place.join("junit.xml").exists());
    // Outputs that lie elsewhere are not named.
    let elsewhere = kept(&everything(), &[]);
    let ran = program(&["report", ".", "--format", "tmt"], elsewhere.path());
    assert!(!ran.stdout.contains("command.stdout"), "{}", ran.stdout);
}
