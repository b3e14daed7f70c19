//! A run's directory, made without running anything.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use harness::evidence;
use harness::exec::verdict;
use harness::log::record::Record;
use harness::log::results::{JOURNAL, RUN_JSON};
use harness::model::case::{Case, Command, Requires, Suite, Variant};
use harness::model::entry::{Entry, RunInfo, SCHEMA_VERSION};
use harness::model::host::Host;
use harness::model::name::CaseName;
use harness::model::outcome::{Exit, Outcome, Status};
use tempfile::TempDir;

/// A run under construction.
pub(crate) struct Run {
    directory: TempDir,
    pub(crate) record: Record,
}

impl Run {
    pub(crate) fn new() -> Self {
        let host = Host {
            hostname: "lab".to_owned(),
            kernel: "6.12.1".to_owned(),
            kernel_version: "#1 SMP".to_owned(),
            machine: "x86_64".to_owned(),
            cpu_vendor: "GenuineIntel".to_owned(),
            cpu_model: "a model".to_owned(),
            cpus: 2,
            memory: 1 << 32,
            free_hugepages: BTreeMap::from([(2 << 20, 0)]),
            kvm_problem: None,
            modules: BTreeMap::from([(
                "kvm_intel".to_owned(),
                BTreeMap::from([("ept".to_owned(), "Y".to_owned())]),
            )]),
            taint: 0,
        };
        let run = RunInfo {
            schema_version: SCHEMA_VERSION,
            version: "0.1.0".to_owned(),
            command_line: vec!["kvm-tests".to_owned(), "run".to_owned(), "a b".to_owned()],
            options: Vec::new(),
            directory: PathBuf::new(),
            started_ms: 1_700_000_000_000,
            host,
            selftests: vec![PathBuf::from("/selftests")],
            workers: 2,
            shuffle_seed: None,
            selected: 0,
            nextest_run_id: None,
        };
        let record = Record {
            finished: true,
            duration_s: Some(12.5),
            ..Record::begun(run)
        };
        Self {
            directory: tempfile::tempdir().unwrap(),
            record,
        }
    }

    /// A case `suite::variant` of this status.
    pub(crate) fn case(&mut self, name: &str, status: Status, reason: &str) -> &mut Outcome {
        let mut outcome = outcome(name);
        outcome.status = status;
        outcome.reason = (!reason.is_empty()).then(|| reason.to_owned());
        self.push(outcome)
    }

    /// A case that ended so after it had printed this.
    pub(crate) fn printed(
        &mut self,
        name: &str,
        exit: Exit,
        stdout: &[u8],
        stderr: &[u8],
    ) -> &mut Outcome {
        let mut outcome = outcome(name);
        let place = PathBuf::from(name.replace("::", "/"));
        let path = self.directory().join(&place);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("command.stdout"), stdout).unwrap();
        fs::write(path.join("command.stderr"), stderr).unwrap();
        let evidence = evidence::read(stdout, stderr).unwrap();
        let verdict = verdict::derive(exit, &evidence, &command());
        outcome.status = verdict.status;
        outcome.reason = verdict.reason;
        outcome.exit = Some(exit);
        outcome.output = Some(place);
        outcome.assertion = evidence.assertion.map(Box::new);
        outcome.subtests = evidence.ktap.subtests;
        self.push(outcome)
    }

    fn push(&mut self, outcome: Outcome) -> &mut Outcome {
        self.record.outcomes.push(outcome);
        self.record.run.selected = self.record.outcomes.len();
        self.record.outcomes.last_mut().unwrap()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes run.json.
    pub(crate) fn end(&self) {
        fs::write(
            self.directory().join(RUN_JSON),
            serde_json::to_vec(&self.record).unwrap(),
        )
        .unwrap();
    }

    /// Leaves what a runner leaves that was killed while its last case ran, and while it wrote a line to the journal.
    pub(crate) fn be_killed(&self) {
        let begun = Record::begun(self.record.run.clone());
        fs::write(
            self.directory().join(RUN_JSON),
            serde_json::to_vec(&begun).unwrap(),
        )
        .unwrap();
        let mut journal = fs::File::create(self.directory().join(JOURNAL)).unwrap();
        let mut enter =
            |entry: &Entry| writeln!(journal, "{}", serde_json::to_string(entry).unwrap()).unwrap();
        enter(&Entry::RunStarted {
            run: Box::new(self.record.run.clone()),
            cases: Vec::new(),
        });
        for (index, outcome) in self.record.outcomes.iter().enumerate() {
            let outcome = Box::new(outcome.clone());
            enter(&Entry::Started {
                outcome: outcome.clone(),
            });
            if index + 1 < self.record.outcomes.len() {
                enter(&Entry::Finished { outcome });
            }
        }
        write!(
            journal,
            "{{\"event\":\"finished\",\"outcome\":{{\"name\":\"cut"
        )
        .unwrap();
    }

    /// The reports, as text: junit.xml and results.ktap.
    pub(crate) fn reports(&self) -> (String, String) {
        harness::report::write_all(self.directory()).unwrap();
        let read = |name: &str| fs::read_to_string(self.directory().join(name)).unwrap();
        (read("junit.xml"), read("results.ktap"))
    }
}

fn outcome(name: &str) -> Outcome {
    let (suite, variant_name) = name.split_once("::").unwrap();
    let variant = Variant {
        suite: Suite::default().into(),
        command: command(),
        directory: Path::new("/selftests").into(),
        setup: None,
        teardown: None,
        precheck: None,
        timeout: None,
        requires: Requires::default(),
        weight: 1,
        needs_kvm: false,
        ignored_splats: Default::default(),
        tags: Default::default(),
        env: Vec::new(),
        shipped: false,
        iterations: 1,
        missing: None,
    };
    let name = CaseName::new(suite, variant_name);
    let case = Case {
        name,
        variant: variant.into(),
        exclusive: false,
        suspect: false,
        ignored: None,
    };
    Outcome {
        duration_s: 0.25,
        started_ms: 1_700_000_000_000,
        ..Outcome::new(&case)
    }
}

fn command() -> Command {
    Command::Program {
        path: Path::new("/selftests/a_test").into(),
        args: Vec::new(),
    }
}
