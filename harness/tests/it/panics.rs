//! A panic of the runner itself, in any step of a case: the run ends, that case is `NO_RUN`, and everything is released.
//!
//! A debug build panics on purpose in a step of a case whose selftest lies in a directory called `panic-in-STEP`.

use std::fs;

use crate::support::{Fixture, Ran, Status};

#[test]
fn a_panic_in_any_step_costs_its_case_and_nothing_else() {
    let suite = "setup = \"true\"\nteardown = \"echo down >> ../down\"\n\
                 [[test]]\nname = \"a\"\nselftest = \"a_test\"\nprecheck = \"true\"\nsetup = \"true\"\n\
                 teardown = \"true\"\nexclusive = true\n";
    for step in [
        "suite_setup",
        "precheck",
        "setup",
        "command",
        "teardown",
        "suite_teardown",
    ] {
        let directory = format!("panic-in-{step}");
        let fixture = Fixture::new()
            .executable(&format!("{directory}/a_test"), "#!/bin/sh\n")
            .selftest("b_test", "exit 0")
            .file("steps.toml", suite);
        let mut command = fixture.command(&["--selftests", &directory, "--selftests", "selftests"]);
        command.args(["--config", "steps.toml", "--output", "run"]);
        command.args(["--skip", "a_test::", "--test-threads", "1"]);
        let ran = Ran::of(command.output().unwrap());
        assert_eq!(ran.code, Some(101), "{step}: {}", ran.stderr);
        let (status, reason) = fixture.verdict("steps::a");
        assert_eq!(status, Status::NoRun, "{step}: {reason}");
        assert!(reason.starts_with("the runner panicked: "), "{reason}");
        assert_eq!(
            fixture.verdict("b_test::default").0,
            Status::Passed,
            "{step}"
        );
        assert!(fixture.record().finished, "{step}");
        // A set-up that may have happened is torn down, unless that is where it panics.
        let is_down = fs::exists(fixture.path().join("down")).unwrap();
        assert_eq!(is_down, step != "suite_teardown", "{step}");
    }
}
