//! The floor, and this project.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::MakeCommand;
use crate::roles;
use crate::stand_in;
use crate::workload::Workload;

/// Where the durations of earlier runs are, and the results beside them.
const AGAIN: &str = "kvm-tests-again";

/// This very program in its other role: see `roles.rs`.
pub(super) fn bare(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let list = workload.list.clone();
    Ok(Box::new(move |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(roles::SPAWN_ALL)
            .arg(&list)
            .arg(workers.to_string());
        command
    }))
}

/// A run that knows from an earlier one how long everything takes.
pub(super) fn again(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let runner = Runner::new(workload, workers);
    let place = workload.directory().join(AGAIN);
    if !place.exists() {
        let mut first = runner.command(&place, "first");
        let first = first
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = first.status().unwrap();
        assert!(status.success() || workload.may_fail, "{first:?}: {status}");
    }
    Ok(Box::new(move |round| {
        runner.command(&place, &output(workers, round))
    }))
}

/// Where those of a round are.
pub(crate) fn results(workload: &Workload, workers: usize, round: usize) -> PathBuf {
    workload
        .directory()
        .join(AGAIN)
        .join(output(workers, round))
}

fn output(workers: usize, round: usize) -> String {
    format!("run-{workers}-{round}")
}

/// One that knows nothing.
pub(super) fn first(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let runner = Runner::new(workload, workers);
    let place = workload.directory().join("kvm-tests-first");
    Ok(Box::new(move |round| {
        runner.command(&place.join(format!("{workers}-{round}")), "run")
    }))
}

/// This project's program.
struct Runner {
    program: PathBuf,
    args: Vec<String>,
    /// Whether these programs need the real host.
    is_real: bool,
}

impl Runner {
    fn new(workload: &Workload, workers: usize) -> Self {
        // Outside of Cargo's target directory, it keeps durations in the working directory.
        let program = workload.directory().join("kvm-tests-runner");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_kvm-tests-runner"), &program).unwrap();
        }
        let mut args = ["run", "--test-threads", &workers.to_string(), "--selftests"]
            .map(String::from)
            .to_vec();
        args.push(workload.selftests().display().to_string());
        args.extend(workload.filters.iter().cloned());
        Self {
            program,
            args,
            is_real: workload.may_fail,
        }
    }

    /// Keeps the durations in `place`, and the results in `output` there.
    fn command(&self, place: &Path, output: &str) -> Command {
        fs::create_dir_all(place).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .args(["--output", output])
            .current_dir(place);
        if !self.is_real {
            stand_in::use_host_in(place, &mut command);
        }
        command
    }
}
