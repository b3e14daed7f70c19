//! In what two runs differ before any of their cases: hosts, kernels, parameters, selftests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::compare::flat;
use crate::environment::definition::HOST;
use crate::log::record::Record;
use crate::model::entry::RunInfo;
use crate::model::host::{Host, Modules, size};
use crate::model::stay::Stay;

/// What a [`Difference`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The machine.
    Host,
    /// Its kernel.
    Kernel,
    /// The KVM modules that are loaded, and their parameters.
    Parameters,
    /// Where the selftests came from.
    Selftests,
    /// How they were run.
    Runner,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about.
    pub subject: Subject,
    /// What differs: `kernel`, `kvm_amd.npt`, `kvm_amd.npt in shadow_mmu`.
    pub what: String,
    /// How it was in the old run.
    pub old: String,
    /// How it was in the new one.
    pub new: String,
}

/// All differences between two runs.
pub fn between(old: &Record, new: &Record) -> Vec<Difference> {
    let mut found = Found::default();
    found.runs(&old.run, &new.run);
    found.environments(old, new);
    found.0
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn texts<T>(
        &mut self,
        subject: Subject,
        what: &str,
        old: &T,
        new: &T,
        text: impl Fn(&T) -> String,
    ) {
        let (old, new) = (flat(&text(old)), flat(&text(new)));
        if old != new {
            self.0.push(Difference {
                subject,
                what: flat(what),
                old,
                new,
            });
        }
    }

    fn runs(&mut self, old: &RunInfo, new: &RunInfo) {
        self.hosts(&old.host, &new.host);
        self.kernels(&old.host, &new.host);
        self.modules(&old.host.modules, &new.host.modules);
        self.texts(Subject::Selftests, "selftests", old, new, |run| {
            let sources: Vec<_> = run
                .selftests
                .iter()
                .map(|source| source.to_string_lossy())
                .collect();
            if sources.is_empty() {
                "embedded".to_owned()
            } else {
                sources.join(", ")
            }
        });
        self.texts(Subject::Runner, "kvm-tests", old, new, |run| {
            run.version.clone()
        });
        self.texts(Subject::Runner, "workers", old, new, |run| {
            run.workers.to_string()
        });
        self.texts(Subject::Runner, "shuffle seed", old, new, |run| {
            run.shuffle_seed
                .map_or("none".to_owned(), |seed| seed.to_string())
        });
    }

    /// The environments that both were in; what differs in one as it does without is told once.
    fn environments(&mut self, old: &Record, new: &Record) {
        let told = self.0.len();
        let names: BTreeSet<&str> = new
            .stays
            .iter()
            .map(|stay| stay.environment.as_str())
            .collect();
        for name in names.into_iter().filter(|name| *name != HOST) {
            let (Some(was), Some(is)) = (old.last_stay(name), new.last_stay(name)) else {
                continue;
            };
            let settings = |stay: &Stay| stay.settings.join(", ");
            self.texts(
                Subject::Parameters,
                &format!("environment {name}"),
                was,
                is,
                settings,
            );
            let mut inside = Self::default();
            inside.modules(&was.modules, &is.modules);
            inside
                .0
                .retain(|difference| !self.0[..told].contains(difference));
            self.0
                .extend(inside.0.into_iter().map(|difference| Difference {
                    what: format!("{} in {}", difference.what, flat(name)),
                    ..difference
                }));
        }
    }

    fn hosts(&mut self, old: &Host, new: &Host) {
        let mut host =
            |what: &str, text: fn(&Host) -> String| self.texts(Subject::Host, what, old, new, text);
        host("host", |host| host.hostname.clone());
        host("machine", |host| host.machine.clone());
        host("CPU vendor", |host| host.cpu_vendor.clone());
        host("CPU", |host| host.cpu_model.clone());
        host("CPUs", |host| host.cpus.to_string());
        host("memory", |host| size(host.memory));
        host("/dev/kvm", |host| {
            host.kvm_problem.clone().unwrap_or("usable".to_owned())
        });
        for page in both(&old.free_hugepages, &new.free_hugepages) {
            self.texts(
                Subject::Host,
                &format!("free hugepages of {}", size(*page)),
                old,
                new,
                |host| host.free_hugepages.get(page).unwrap_or(&0).to_string(),
            );
        }
    }

    fn kernels(&mut self, old: &Host, new: &Host) {
        self.texts(Subject::Kernel, "kernel", old, new, |host| {
            host.kernel.clone()
        });
        if old.kernel == new.kernel {
            self.texts(Subject::Kernel, "kernel build", old, new, |host| {
                host.kernel_version.clone()
            });
        }
        self.texts(Subject::Kernel, "kernel taint", old, new, |host| {
            host.taint.to_string()
        });
    }

    fn modules(&mut self, old: &Modules, new: &Modules) {
        for module in both(old, new) {
            let (Some(was), Some(is)) = (old.get(module), new.get(module)) else {
                self.texts(
                    Subject::Parameters,
                    &format!("module {module}"),
                    old,
                    new,
                    |modules| {
                        if modules.contains_key(module) {
                            "loaded"
                        } else {
                            "not loaded"
                        }
                        .to_owned()
                    },
                );
                continue;
            };
            for parameter in both(was, is) {
                self.texts(
                    Subject::Parameters,
                    &format!("{module}.{parameter}"),
                    was,
                    is,
                    |parameters| {
                        parameters
                            .get(parameter)
                            .map_or("not there".to_owned(), Clone::clone)
                    },
                );
            }
        }
    }
}

fn both<'a, K: Ord, V>(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    old.keys().chain(new.keys()).collect()
}
