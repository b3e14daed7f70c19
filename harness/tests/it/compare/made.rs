//! Runs made by hand, and read from their directories.

use std::collections::BTreeMap;
use std::fs;

use harness::compare::{Comparison, Format, Run};
use harness::evidence::Evidence;
use harness::log::record::Record;
use harness::model::case::Command;
use harness::model::entry::{RunInfo, SCHEMA_VERSION};
use harness::model::host::Host;
use harness::model::outcome::{Assertion, Exit, Outcome, Status};

use harness::exec::verdict;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn outcome(name: &str, status: Status, reason: &str) -> Outcome {
    let exit = match status {
        Status::Passed => Some(Exit::Code(0)),
        Status::Skipped => Some(Exit::Code(4)),
        Status::Failed => Some(Exit::Code(1)),
        Status::TimedOut => Some(Exit::Timeout),
        Status::NoRun => None,
    };
    Outcome {
        name: name.to_owned(),
        environment: None,
        suite: name.split("::").next().unwrap().to_owned(),
        variant: "default".to_owned(),
        status,
        reason: (status != Status::Passed).then(|| reason.to_owned()),
        exit,
        pid: Some(77),
        started_ms: 1_700_000_000_000,
        duration_s: 0.5,
        user_s: 0.0,
        system_s: 0.0,
        max_rss: 0,
        worker: 0,
        output: None,
        stdout_bytes: None,
        stderr_bytes: None,
        reproduce: format!("run {name}"),
        assertion: None,
        subtests: Vec::new(),
        leaks: Vec::new(),
        splats: Vec::new(),
        suspect: false,
        left_behind: Vec::new(),
    }
}

pub(crate) fn passed(name: &str) -> Outcome {
    outcome(name, Status::Passed, "")
}

pub(crate) fn lasting(name: &str, seconds: f64) -> Outcome {
    Outcome {
        duration_s: seconds,
        ..passed(name)
    }
}

/// A failed assertion, with the reason that the runner makes of it.
pub(crate) fn asserting(
    name: &str,
    file: &str,
    line: u32,
    expression: &str,
    message: &str,
) -> Outcome {
    let (file, expression, message) = (file.to_owned(), expression.to_owned(), message.to_owned());
    let assertion = Assertion {
        file,
        line,
        expression,
        message,
        errno: Some(4),
    };
    let evidence = Evidence {
        assertion: Some(assertion.clone()),
        ..Evidence::default()
    };
    let exit = Exit::Code(254);
    let verdict = verdict::derive(exit, &evidence, &Command::Shell(String::new()));
    let reason = verdict.reason.unwrap();
    Outcome {
        exit: Some(exit),
        assertion: Some(Box::new(assertion)),
        ..outcome(name, verdict.status, &reason)
    }
}

pub(crate) fn host() -> Host {
    let parameters = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    Host {
        hostname: "box".to_owned(),
        kernel: "6.12.1".to_owned(),
        kernel_version: "#1 SMP".to_owned(),
        machine: "x86_64".to_owned(),
        cpu_vendor: "AuthenticAMD".to_owned(),
        cpu_model: "AMD EPYC".to_owned(),
        cpus: 8,
        memory: 16 << 30,
        free_hugepages: BTreeMap::from([(2 << 20, 0)]),
        kvm_problem: None,
        modules: BTreeMap::from([
            (
                "kvm".to_owned(),
                parameters(&[("tdp_mmu", "Y"), ("nx_huge_pages", "N")]),
            ),
            ("kvm_amd".to_owned(), parameters(&[("npt", "Y")])),
        ]),
        taint: 0,
    }
}

pub(crate) fn info(selected: usize) -> RunInfo {
    RunInfo {
        schema_version: SCHEMA_VERSION,
        version: "0.1.0".to_owned(),
        command_line: vec!["kvm-tests".to_owned(), "run".to_owned()],
        options: Vec::new(),
        directory: "".into(),
        started_ms: 1_700_000_000_000,
        host: host(),
        selftests: vec!["/opt/selftests".into()],
        workers: 8,
        shuffle_seed: None,
        selected,
        nextest_run_id: None,
    }
}

pub(crate) fn record(outcomes: Vec<Outcome>) -> Record {
    let run = info(outcomes.len());
    Record {
        outcomes,
        finished: true,
        duration_s: Some(9.0),
        ..Record::begun(run)
    }
}

/// The record as a run keeps it and as it is read back, called `name`.
pub(crate) fn kept(name: &str, record: &Record) -> Run {
    let directory = TempDir::new().unwrap();
    fs::write(
        directory.path().join("run.json"),
        serde_json::to_vec(record).unwrap(),
    )
    .unwrap();
    let run = Run::read(directory.path()).unwrap();
    assert_eq!(&run.record, record);
    Run {
        place: name.into(),
        ..run
    }
}

pub(crate) fn run(name: &str, outcomes: Vec<Outcome>) -> Run {
    kept(name, &record(outcomes))
}

pub(crate) fn iterations(name: &str, total: usize, failing: &[usize]) -> Vec<Outcome> {
    let of = |number| {
        let status = if failing.contains(&number) {
            Status::Failed
        } else {
            Status::Passed
        };
        outcome(
            &format!("{name}::iteration_{number}"),
            status,
            &format!("exit code 1; last output: page {number}"),
        )
    };
    (1..=total).map(of).collect()
}

pub(crate) fn json(old: &Run, new: &Run, slower: Option<f64>) -> Value {
    serde_json::from_str(&Comparison::of(old, new, slower).render(Format::Json)).unwrap()
}
