//! What a run leaves, as its files have it: read as any other program would.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

/// The five words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Status {
    Passed,
    Skipped,
    Failed,
    TimedOut,
    NoRun,
}

/// run.json.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Record {
    pub(crate) parts: Vec<Value>,
    pub(crate) selected: usize,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) environments: Vec<Value>,
    pub(crate) splats: Vec<Value>,
    pub(crate) finished: bool,
}

/// One of its outcomes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) variant: String,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    pub(crate) started_ms: u64,
    pub(crate) duration_s: f64,
    pub(crate) output: Option<PathBuf>,
    pub(crate) reproduce: String,
    pub(crate) leaks: Vec<Value>,
    pub(crate) splats: Vec<Value>,
    pub(crate) suspect: bool,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, Value>,
}

impl Record {
    /// The run in a directory; that of one that was killed is made up by `kvm-tests report`, as users do it.
    pub(crate) fn read(directory: &Path) -> Result<Self, String> {
        let path = directory.join("run.json");
        if !path.exists() {
            report(directory)?;
        }
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }

    /// The outcomes of this status.
    pub(crate) fn of_status(&self, status: Status) -> impl Iterator<Item = &Outcome> {
        let outcomes = self.outcomes.iter();
        outcomes.filter(move |outcome| outcome.status == status)
    }

    /// What was known when its first part began.
    pub(crate) fn first(&self) -> &Value {
        &self.parts[0]["part"]
    }

    /// How its last part ended.
    pub(crate) fn end(&self) -> &Value {
        &self.parts.last().unwrap()["end"]
    }
}

/// Writes the reports of a run again.
pub(crate) fn report(directory: &Path) -> Result<(), String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    let output = program.arg("report").arg(directory).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The journals of a run, in their order.
pub(crate) fn journals(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("journal")).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// All lines of a run's journals that can be read: the event's name, and what it carries.
pub(crate) fn events(run: &Path) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    for path in journals(run) {
        for line in fs::read(path).unwrap().split(|&byte| byte == b'\n') {
            let Ok(Value::Object(event)) = serde_json::from_slice(line) else {
                continue;
            };
            events.extend(event);
        }
    }
    events
}
