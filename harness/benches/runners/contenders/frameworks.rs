//! Those who take a list of tests.

use std::fs;
use std::process::Command;

use super::{MakeCommand, find};
use crate::workload::Workload;

/// It wants TAP, which a shell prints for each program.
pub(super) fn prove(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("prove")?;
    let tap = workload.directory().join("tap.sh");
    fs::write(&tap, "\"$1\" && echo 1..1 && echo ok\n").unwrap();
    let programs = workload.programs.clone();
    Ok(Box::new(move |_| {
        let mut command = Command::new(&program);
        command
            .args(["-Q", "-j", &workers.to_string(), "-e"])
            .arg(format!("/bin/sh {}", tap.display()));
        command.args(&programs);
        command
    }))
}

pub(super) fn avocado(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("avocado")?;
    let (programs, directory) = (workload.programs.clone(), workload.directory().to_owned());
    Ok(Box::new(move |round| {
        let mut command = Command::new(&program);
        command.args([
            "run",
            &format!("--max-parallel-tasks={workers}"),
            "--disable-sysinfo",
        ]);
        command
            .arg("--job-results-dir")
            .arg(directory.join(format!("avocado-{workers}-{round}")));
        command.args(&programs);
        command
    }))
}

pub(super) fn kirk(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("kirk")?;
    workload.write("ltp/runtest/programs", "", |name, path| {
        format!("{name} {}", path.display())
    });
    let directory = workload.directory().to_owned();
    fs::create_dir_all(directory.join("ltp/testcases/bin")).unwrap();
    Ok(Box::new(move |round| {
        let scratch = directory.join(format!("kirk-{workers}-{round}"));
        fs::create_dir(&scratch).unwrap();
        let mut command = Command::new(&program);
        command.args([
            "--run-suite",
            "programs",
            "--workers",
            &workers.to_string(),
            "--force-parallel",
        ]);
        command
            .arg("--tmp-dir")
            .arg(scratch)
            .env("LTPROOT", directory.join("ltp"));
        command
    }))
}
