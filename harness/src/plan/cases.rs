//! From suites to cases: what each test runs on this host, or why it cannot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::embedded::SMOKE_SELFTEST;
use super::selftests::{Selftest, Selftests};
use super::suite::{SuiteFile, TestEntry, What, WrittenAt};
use crate::model::arch::Arch;
use crate::model::case::{Case, Command, Suite, Variant, quoted};
use crate::model::name::CaseName;
use crate::model::problem::{Problem, excerpt};

/// The variant that a selftest has by itself: run without arguments.
const DEFAULT_VARIANT: &str = "default";

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
pub(super) enum Owner {
    User,
    /// It is shipped with this program, for the selftests of many kernels.
    Program,
}

/// How a test is started.
struct Start<'a> {
    command: Command,
    directory: Arc<Path>,
    selftest: Option<&'a Selftest>,
    missing: Option<String>,
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
    pub(super) fn add_suites(&mut self, files: Vec<SuiteFile>, owner: Owner) {
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
        for (name, test) in shipped {
            if let Some(selftest) = self.selftests.get(&name) {
                said.insert(selftest.name.as_str(), test);
            }
        }
        for (name, test) in users {
            match self.selftests.get(&name) {
                Some(selftest) => drop(said.insert(selftest.name.as_str(), test)),
                None => self.problems.push(test.place.problem(self.unknown(&name))),
            }
        }
        for selftest in self.selftests.iter() {
            let name = &selftest.name;
            if self.has_default.contains(name) {
                continue;
            }
            let suite = self.suites.entry(name.clone()).or_insert_with(|| {
                let name = name.clone();
                let suite = Suite {
                    name,
                    ..Suite::default()
                };
                Arc::new(suite)
            });
            let suite = Arc::clone(suite);
            let test = said.remove(name.as_str());
            let test = test.unwrap_or_else(|| TestEntry::default_of(name.clone()));
            self.add(&suite, test, Owner::Program);
        }
    }

    fn add(&mut self, suite: &Arc<Suite>, test: TestEntry, owner: Owner) {
        if test.name == DEFAULT_VARIANT {
            self.has_default.insert(suite.name.clone());
        }
        if let (Owner::User, What::Selftest { name, .. }) = (owner, &test.what)
            && self.selftests.get(name).is_none()
            && self.ignored(test.settings.arch.as_deref(), None).is_none()
        {
            self.problems.push(test.place.problem(self.unknown(name)));
            return;
        }
        let case = self.case(suite, test, owner);
        if owner == Owner::Program && !case.needs_kvm && case.missing.is_some() {
            self.left_out.push(case);
        } else {
            self.cases.push(case);
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

    fn case(&self, suite: &Arc<Suite>, test: TestEntry, owner: Owner) -> Case {
        let start = self.start(test.what, &test.place);
        let settings = test.settings;
        let ignored = self.ignored(settings.arch.as_deref(), start.selftest);
        let variant = Variant {
            suite: Arc::clone(suite),
            command: start.command,
            directory: start.directory,
            setup: test.setup,
            teardown: test.teardown,
            precheck: test.precheck,
            env: test.env,
            timeout: settings.timeout,
            requires: settings.requires,
            weight: settings.weight,
            needs_kvm: start.selftest.is_some(),
            ignored_splats: settings.ignored_splats,
            tags: settings.tags,
            iterations: settings.iterations,
            shipped: owner == Owner::Program,
            missing: start.missing,
        };
        Case {
            name: CaseName::new(&suite.name, test.name),
            variant: Arc::new(variant),
            exclusive: settings.exclusive,
            suspect: false,
            ignored,
        }
    }

    fn start(&self, what: What, place: &WrittenAt) -> Start<'a> {
        match what {
            What::Selftest { name, args } => {
                let args = args.into_iter().map(OsString::from).collect();
                match self.selftests.get(&name) {
                    Some(selftest) => start_of(selftest, args),
                    None => {
                        let path = Path::new(&name).into();
                        self.start_of_missing(place, &name, Command::Program { path, args })
                    }
                }
            }
            What::SelftestLine { name, rest } => match self.selftests.get(&name) {
                Some(selftest) => start_of(selftest, Vec::new()).with_line(&rest),
                None => {
                    let line = Command::Shell(format!("{name} {rest}"));
                    self.start_of_missing(place, &name, line)
                }
            },
            What::Shell(line) => self.start_of_line(place, line),
        }
    }

    /// A line for the shell runs in the selftests' directory: that of the one it starts with (`./NAME`), where it does.
    fn start_of_line(&self, place: &WrittenAt, line: String) -> Start<'a> {
        let first = line.split_whitespace().next().unwrap_or_default();
        let Some(name) = first.strip_prefix("./").filter(|name| !name.contains('/')) else {
            return Start {
                command: Command::Shell(line),
                directory: self.directory(place),
                selftest: None,
                missing: None,
            };
        };
        let selftest = self.selftests.get(name);
        match selftest.filter(|selftest| selftest.file_name() == name) {
            Some(selftest) => Start {
                command: Command::Shell(line),
                ..start_of(selftest, Vec::new())
            },
            None => self.start_of_missing(place, name, Command::Shell(line.clone())),
        }
    }

    fn start_of_missing(&self, place: &WrittenAt, name: &str, command: Command) -> Start<'a> {
        Start {
            command,
            directory: self.directory(place),
            selftest: None,
            missing: Some(format!("{} ({place})", self.unknown(name))),
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

impl Start<'_> {
    /// The same, as a line for the shell that goes on with `rest`.
    fn with_line(self, rest: &str) -> Self {
        let Command::Program { path, args } = &self.command else {
            return self;
        };
        let words = std::iter::once(path.as_os_str()).chain(args.iter().map(OsString::as_os_str));
        let words: Vec<_> = words.map(quoted).collect();
        Self {
            command: Command::Shell(format!("{} {rest}", words.join(" "))),
            ..self
        }
    }
}

fn start_of(selftest: &Selftest, args: Vec<OsString>) -> Start<'_> {
    let (path, args) = match &selftest.file {
        Some(path) => (Arc::clone(path), args),
        None => {
            let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
            let hidden = [SMOKE_SELFTEST, selftest.name.as_str()].map(OsString::from);
            (exe.into(), hidden.into_iter().chain(args).collect())
        }
    };
    Start {
        command: Command::Program { path, args },
        directory: Arc::clone(&selftest.directory),
        missing: selftest.missing.clone(),
        selftest: Some(selftest),
    }
}
