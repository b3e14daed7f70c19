//! From suites to cases: what each test runs on this host, or why it cannot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::selftests::{Selftest, Selftests};
use super::suite::{SuiteFile, TestEntry, What};
use crate::embedded::SMOKE_SELFTEST;
use crate::model::case::name::CaseName;
use crate::model::case::{Case, Command, DEFAULT, Suite, Variant};
use crate::model::host::Arch;
use crate::model::problem::{Problem, WrittenAt, excerpt};

/// How to get the kernel's selftests.
pub(super) const KERNELS_OWN: &str =
    "for the kernel's selftests: --selftests DIR, KVM_SELFTESTS or KERNEL_SRC";

/// Makes cases of suites.
pub(super) struct Assembly<'a> {
    selftests: &'a Selftests,
    target: Option<Arch>,
    suites: BTreeMap<String, Arc<Suite>>,
    has_default: HashSet<String>,
    /// The cases on the host as it is.
    pub(super) cases: Vec<Case>,
    /// Those of shipped suites whose selftests are not there.
    pub(super) left_out: Vec<Case>,
    /// Tests of the user's whose selftests are not there.
    pub(super) problems: Vec<Problem>,
}

/// Whose a suite is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SuiteOwner {
    User,
    /// It is shipped with this program, for the selftests of many kernels.
    Program,
}

impl<'a> Assembly<'a> {
    /// One without cases, for `selftests` on a machine of the architecture `target`.
    pub(super) fn new(selftests: &'a Selftests, target: Option<Arch>) -> Self {
        Self {
            selftests,
            target,
            suites: BTreeMap::new(),
            has_default: HashSet::new(),
            cases: Vec::new(),
            left_out: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Adds the cases of suites.
    pub(super) fn add_suites(&mut self, files: Vec<SuiteFile>, owner: SuiteOwner) {
        for file in files {
            let suite = Arc::new(Suite {
                name: file.name,
                setup: file.setup,
                teardown: file.teardown,
                env: file.env,
            });
            self.suites.insert(suite.name.clone(), Arc::clone(&suite));
            self.cases.reserve(file.tests.len());
            for test in file.tests {
                self.add(&suite, test, owner);
            }
        }
    }

    /// Adds a case without arguments for each selftest whose suite has none, with what is said about it: what the user
    /// says takes the place of what is shipped.
    pub(super) fn add_defaults(
        &mut self,
        users: HashMap<String, TestEntry>,
        shipped: HashMap<String, TestEntry>,
    ) {
        let mut said = HashMap::new();
        let shipped = shipped.into_iter().map(|said| (SuiteOwner::Program, said));
        let users = users.into_iter().map(|said| (SuiteOwner::User, said));
        for (owner, (name, test)) in shipped.chain(users) {
            match self.selftests.get(&name) {
                Some(selftest) => drop(said.insert(selftest.name.as_str(), test)),
                None => self.refuse_unknown(owner, &name, &test),
            }
        }
        for selftest in self.selftests.iter() {
            let name = &selftest.name;
            if self.has_default.contains(name) {
                continue;
            }
            let suite = self.suites.entry(name.clone()).or_insert_with(|| {
                let name = name.clone();
                Arc::new(Suite {
                    name,
                    ..Suite::default()
                })
            });
            let suite = Arc::clone(suite);
            let test = said.remove(name.as_str());
            let test = test.unwrap_or_else(|| TestEntry::default_of(name.clone()));
            self.add(&suite, test, SuiteOwner::Program);
        }
    }

    fn add(&mut self, suite: &Arc<Suite>, test: TestEntry, owner: SuiteOwner) {
        if test.name == DEFAULT {
            self.has_default.insert(suite.name.clone());
        }
        match &test.what {
            What::Selftest { name, .. } if self.selftests.get(name).is_none() => {
                self.refuse_unknown(owner, name, &test);
            }
            _ => {}
        }
        let case = self.case(suite, test, owner);
        if owner == SuiteOwner::Program && case.collection.is_none() && case.missing.is_some() {
            self.left_out.push(case);
        } else {
            self.cases.push(case);
        }
    }

    /// A selftest that is not there is a mistake, unless it is for another kernel or architecture.
    fn refuse_unknown(&mut self, owner: SuiteOwner, name: &str, test: &TestEntry) {
        if owner == SuiteOwner::User && self.ignored(test.arch.as_deref(), None).is_none() {
            self.problems.push(test.place.problem(self.unknown(name)));
        }
    }

    /// That there is no such selftest.
    fn unknown(&self, name: &str) -> String {
        let hint = match self.selftests.nearest(name) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if self.selftests.sources.is_empty() => format!("; {KERNELS_OWN}"),
            None => String::new(),
        };
        format!("there is no selftest `{}`{hint}", excerpt(name))
    }

    fn case(&self, suite: &Arc<Suite>, test: TestEntry, owner: SuiteOwner) -> Case {
        let (command, selftest) = self.command(test.what);
        let missing = match &selftest {
            Ok(selftest) => selftest.and_then(|selftest| selftest.missing.clone()),
            Err(unknown) => Some(format!("{unknown} ({})", test.place)),
        };
        let selftest = selftest.ok().flatten();
        let directory = selftest.map(|selftest| Arc::clone(&selftest.directory));
        let ignored = self.ignored(test.arch.as_deref(), selftest);
        let variant = Variant {
            suite: Arc::clone(suite),
            command,
            directory: directory.unwrap_or_else(|| self.directory(&test.place)),
            setup: test.setup,
            teardown: test.teardown,
            precheck: test.precheck,
            env: test.env,
            timeout: test.timeout,
            requires: test.requires,
            weight: test.weight,
            collection: selftest.map(|selftest| Arc::clone(&selftest.collection)),
            ignored_splats: test.ignored_splats,
            tags: test.tags,
            iterations: test.iterations,
            shipped: owner == SuiteOwner::Program,
            missing,
        };
        Case {
            name: CaseName::new(&suite.name, test.name),
            variant: Arc::new(variant),
            exclusive: test.exclusive,
            environment_options: None,
            suspect: false,
            ignored,
            known: Vec::new(),
        }
    }

    /// What is run, and the selftest that it is or, as a line for the shell, starts with (`./NAME`); or that there is no
    /// such selftest.
    fn command(&self, what: What) -> (Command, Result<Option<&'a Selftest>, String>) {
        match what {
            What::Selftest { name, args } => {
                let args = args.into_iter().map(OsString::from).collect();
                match self.selftests.get(&name) {
                    Some(selftest) => (command_of(selftest, args), Ok(Some(selftest))),
                    None => {
                        let path = Path::new(&name).into();
                        (Command::Program { path, args }, Err(self.unknown(&name)))
                    }
                }
            }
            What::Shell(line) => {
                let own = line.strip_prefix("./").unwrap_or_default();
                let name = own.split(char::is_whitespace).next();
                let name = name.filter(|name| !name.is_empty() && !name.contains('/'));
                let rest = &own[name.unwrap_or_default().len()..];
                match name.map(|name| self.selftests.get(name).ok_or_else(|| self.unknown(name))) {
                    Some(Ok(selftest)) => {
                        let line = format!("{}{rest}", command_of(selftest, Vec::new()).line());
                        (Command::Shell(line), Ok(Some(selftest)))
                    }
                    Some(Err(unknown)) => (Command::Shell(line), Err(unknown)),
                    None => (Command::Shell(line), Ok(None)),
                }
            }
        }
    }

    /// Where a command runs that is no selftest's: where the selftests are, else beside the file that has it.
    fn directory(&self, place: &WrittenAt) -> Arc<Path> {
        let beside = || {
            let path = std::path::absolute(&place.path).ok()?;
            path.parent()?.canonicalize().ok()
        };
        let of_selftests = self.selftests.directory();
        of_selftests.unwrap_or_else(|| beside().unwrap_or_else(|| PathBuf::from("/")).into())
    }

    /// Why a test for these architectures, or a selftest built for another one, is ignored here.
    fn ignored(&self, arches: Option<&[Arch]>, selftest: Option<&Selftest>) -> Option<String> {
        let built_for = selftest.and_then(|selftest| selftest.arch);
        let is_for = |arch: &Arch| Some(*arch) == self.target;
        let only_for = match (arches, built_for) {
            (Some(arches), _) if !arches.iter().any(is_for) => {
                let names: Vec<_> = arches.iter().map(|arch| arch.as_str()).collect();
                format!("for {} only", names.join(" and "))
            }
            (_, Some(arch)) if !is_for(&arch) => format!("built for {arch}"),
            _ => return None,
        };
        let here = self
            .target
            .map_or(std::env::consts::ARCH, |arch| arch.as_str());
        Some(format!("{only_for}; this host is {here}"))
    }
}

fn command_of(selftest: &Selftest, args: Vec<OsString>) -> Command {
    match &selftest.file {
        Some(path) => Command::Program {
            path: Arc::clone(path),
            args,
        },
        None => {
            let exe = std::env::current_exe().ok().filter(|exe| exe.exists());
            let exe = exe.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
            let hidden = [SMOKE_SELFTEST, selftest.name.as_str()].map(OsString::from);
            Command::Program {
                path: exe.into(),
                args: hidden.into_iter().chain(args).collect(),
            }
        }
    }
}
