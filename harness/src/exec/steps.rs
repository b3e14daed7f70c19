//! The steps of one case on one worker: its suite's set-up, precheck, set-up, the selftest itself, tear-down.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::suite::SuiteRun;
use super::verdict::failure_of;
use crate::kernel_log::KernelLog;
use crate::model::case::{Case, Command};
use crate::model::event::{Event, Sink};
use crate::model::facts::{Facts, StepEnd};
use crate::model::outcome::Step;
use crate::model::time::now_ms;
use crate::supervise::{Task, Urgency, Worker};

/// What the steps of all cases are run with.
pub struct StepContext {
    /// The run's directory.
    pub root: PathBuf,
    /// Whether this is one of the processes of a run of nextest.
    pub is_nextest: bool,
    /// The timeout of the cases that set none.
    pub timeout: Duration,
    /// What the kernel says meanwhile.
    pub kernel_log: Arc<KernelLog>,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
}

/// One case on one worker. When it is dropped, the kernel's log and the worker are done with it.
pub(super) struct Steps<'a> {
    context: &'a StepContext,
    case: &'a Case,
    worker: Worker,
    facts: &'a mut Facts,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        context: &'a StepContext,
        case: &'a Case,
        worker: Worker,
        facts: &'a mut Facts,
    ) -> Self {
        context
            .kernel_log
            .begin(case, worker.number(), worker.supervisor());
        facts.worker = worker.number();
        Self {
            context,
            case,
            worker,
            facts,
        }
    }

    /// Runs them all, as far as they let each other.
    pub(super) fn run(&mut self, suite: &SuiteRun) {
        if let Some(end) = suite.set_up(|command| self.shell(Step::SuiteSetup, command)) {
            let is_up = failure_of(&end).is_none();
            self.facts.steps.push((Step::SuiteSetup, end));
            if !is_up {
                return;
            }
        }
        let case = self.case;
        let precheck = case.precheck.as_deref();
        if precheck.is_some_and(|command| !self.keep(Step::Precheck, command)) {
            return;
        }
        let is_up = match &case.setup {
            Some(command) => self.keep(Step::Setup, command),
            None => true,
        };
        if is_up {
            self.selftest();
        }
        if let Some(command) = &case.teardown {
            self.keep(Step::Teardown, command);
        }
    }

    /// Tears down the case's suite.
    pub(super) fn tear_down_suite(&mut self, command: &str) {
        self.keep(Step::SuiteTeardown, command);
    }

    /// Runs a shell command as a step; returns whether it ended well.
    fn keep(&mut self, step: Step, command: &str) -> bool {
        let end = self.shell(step, command);
        let is_good = failure_of(&end).is_none();
        self.facts.steps.push((step, end));
        is_good
    }

    fn selftest(&mut self) {
        let (program, args) = match &self.case.command {
            Command::Program { path, args } => (path.to_path_buf(), args.clone()),
            Command::Shell(line) => in_shell(line),
        };
        let end = self.step(Step::Selftest, program.clone(), args);
        if let Ok(ended) = &end {
            self.facts.core_dump = super::crash::core(ended, &self.case.directory);
            self.facts.guest_rip = super::crash::guest_rip(ended, &program);
        }
        self.facts.steps.push((Step::Selftest, end));
    }

    fn shell(&mut self, step: Step, line: &str) -> StepEnd {
        let (program, args) = in_shell(line);
        self.step(step, program, args)
    }

    fn step(&mut self, step: Step, program: PathBuf, args: Vec<OsString>) -> StepEnd {
        panic_where_a_test_wants_it(&self.case.directory, step);
        let context = self.context;
        let place = match step {
            Step::SuiteSetup | Step::SuiteTeardown if !context.is_nextest => {
                directory_of_suite(self.case)
            }
            _ => self.case.name.place(),
        };
        let task = Task {
            program,
            args,
            env: match step {
                Step::SuiteSetup | Step::SuiteTeardown => self.case.suite.env.clone(),
                _ => self.case.env.clone(),
            },
            directory: self.case.directory.to_path_buf(),
            root: context.root.clone(),
            place,
            step,
            timeout: self.timeout(),
            urgency: match step {
                Step::Teardown | Step::SuiteTeardown => Urgency::MustEnd,
                Step::SuiteSetup | Step::Precheck | Step::Setup | Step::Selftest => {
                    Urgency::Interruptible
                }
            },
        };
        let case = self.case.name.to_string();
        let worker = self.worker.number();
        let started = |pid| {
            context.kernel_log.started(worker, pid);
            context.sink.record(Event::StepStarted {
                case: case.clone(),
                step,
                pid,
                worker,
                at_ms: now_ms(),
            });
        };
        let end = self.worker.run(&task, started);
        if let Ok(ended) = &end {
            context.sink.record(Event::StepEnded {
                case,
                step,
                exit: ended.exit,
                at_ms: now_ms(),
            });
        }
        end
    }

    fn timeout(&self) -> Duration {
        self.case.timeout.unwrap_or(self.context.timeout)
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        let worker = self.worker.number();
        let splats = self.context.kernel_log.end(self.case, worker);
        self.facts.splats.extend(splats);
    }
}

fn in_shell(line: &str) -> (PathBuf, Vec<OsString>) {
    (PathBuf::from("/bin/sh"), vec!["-c".into(), line.into()])
}

/// Where the output of a suite's own steps belongs, below the run's directory.
pub(super) fn directory_of_suite(case: &Case) -> PathBuf {
    let name = &case.name;
    name.environment.iter().chain([&name.suite]).collect()
}

/// A test of this program may ask for a panic in a step, by the directory that it runs its selftests in.
fn panic_where_a_test_wants_it(directory: &Path, step: Step) {
    if cfg!(debug_assertions) {
        let wanted = format!("panic-in-{}", step.file_stem());
        let is_wanted = directory.iter().any(|part| *part == *wanted);
        assert!(!is_wanted, "a test wants a panic in the {}", step.as_str());
    }
}
