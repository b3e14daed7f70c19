//! The host lock: who uses this host, and how.
//!
//! Whoever uses it takes a number and waits for those who came before it and are in its way. So nobody starves, and
//! everybody can say for whom it waits.

use std::fs;
use std::io;
use std::iter::successors;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::target::Refusal;
use crate::model::host::Root;
use crate::model::time;
use crate::supervise::parent_of;
use queue::{Hold, Number, Queue, Queued, excludes};

pub use queue::Use;

mod queue;

/// How often it is looked whether others are done. A wait in flock(2) itself would be deaf to the user's Ctrl-C.
const POLL: Duration = Duration::from_millis(50);

/// How long after a first look the second one comes; each later one waits twice as long, up to [`POLL`].
const FIRST_POLL: Duration = Duration::from_millis(1);

/// The lock on a host.
#[derive(Debug)]
pub struct HostLock {
    root: Root,
    /// This process, and what its holds have in common.
    this: Hold,
    /// The processes that have started this one.
    ancestors: Vec<u32>,
    /// Why there is no lock here, looked up when it is first taken: until then nothing on the host is touched.
    problem: OnceLock<Option<String>>,
}

/// A use of the host, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the host is given back when this is dropped"]
pub struct Held {
    numbers: Vec<Number>,
}

impl HostLock {
    /// The lock of the host whose files are under `root`.
    pub fn new(root: &Root) -> Self {
        let words: Vec<_> = std::env::args_os().collect();
        let this = Hold {
            pid: std::process::id(),
            namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino()),
            command: words.join(" ".as_ref()).to_string_lossy().into_owned(),
            since_ms: time::now_ms(),
            how: Use::Shared,
            environment: String::new(),
        };
        let parent = |pid: &u32| {
            let parent = parent_of(i32::try_from(*pid).ok()?)?;
            u32::try_from(parent).ok().filter(|&pid| pid > 0)
        };
        Self {
            root: root.clone(),
            ancestors: successors(parent(&this.pid), parent).collect(),
            this,
            problem: OnceLock::new(),
        }
    }

    /// What the user should know of it: whom it does not see.
    pub fn limit(&self) -> Option<String> {
        if let Some(problem) = self.problem() {
            return Some(format!("none, other runs are not seen: {problem}"));
        }
        let of_root = queue::of_root(&self.root);
        let queues = Queue::open_all(&self.root).unwrap_or_default();
        if queues.iter().any(|queue| queue.path == of_root) {
            return None;
        }
        let (own, of_root) = (queue::of_user(&self.root), of_root.display());
        Some(format!(
            "in {}: other users' runs are not seen, unless one of root has made {of_root}",
            own.display()
        ))
    }

    fn problem(&self) -> Option<&String> {
        let find = || Queue::open_all(&self.root).err();
        let problem = self.problem.get_or_init(|| Some(find()?.to_string()));
        problem.as_ref()
    }

    /// Takes the host. What this process or those that started it hold is never waited for. `wait` hears again and again,
    /// about every 50 ms, for whom it waits, and may break the wait off.
    ///
    /// # Errors
    /// The lock cannot be used, or the wait was broken off.
    pub fn take(
        &self,
        how: &Use,
        wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Held, Refusal> {
        self.take_in(how, None, wait)
    }

    /// The same, for a use that needs the host in `environment`; else that is the one in which this process, or one that
    /// started it, keeps the host.
    pub(super) fn take_in(
        &self,
        how: &Use,
        environment: Option<&str>,
        wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Held, Refusal> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::Interrupted => Refusal::Interrupted,
            _ => Refusal::Failed(format!("lock this host: {error}")),
        };
        let mut numbers = self.line_up(how, environment, wait).map_err(failed)?;
        let (mut pause, mut said) = (FIRST_POLL, None);
        loop {
            let mut waits = numbers.iter().map(|number| self.in_the_way(number));
            let Some(others) = waits.find(|others| !others.is_empty()) else {
                return Ok(Held { numbers });
            };
            if pause == POLL {
                // Said once: others only leave.
                let said = said.get_or_insert_with(|| message(&numbers[0].hold, &others));
                if wait(said).is_break() {
                    return Err(Refusal::Interrupted);
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(POLL);
            numbers.iter_mut().for_each(Number::look_again);
        }
    }

    /// The environment in which one of those that started this process keeps the host, and who that is.
    pub(super) fn outer(&self) -> Option<(String, String)> {
        let queues = [queue::of_root(&self.root), queue::of_user(&self.root)];
        let holds = queues.iter().flat_map(|path| queue::queued(path));
        let mut holds = holds.map(|queued| queued.hold);
        let outer = holds.find(|hold| hold.how == Use::Environment && self.is_ancestors(hold))?;
        let who = outer.user();
        Some((outer.environment, who))
    }

    /// Whether others than `held` keep the host in `environment`.
    pub(super) fn is_shared(&self, held: &Held, environment: &str) -> bool {
        held.numbers.iter().any(|number| {
            let mut others = number.others().into_iter().map(|queued| queued.hold);
            others.any(|hold| hold.how == Use::Environment && hold.environment == environment)
        })
    }

    /// Takes a number in each queue.
    fn line_up(
        &self,
        how: &Use,
        environment: Option<&str>,
        wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> io::Result<Vec<Number>> {
        if self.problem().is_some() {
            return Ok(Vec::new());
        }
        'again: loop {
            let mut numbers = Vec::new();
            for queue in Queue::open_all(&self.root)? {
                let hold = |ahead: &[Queued]| Hold {
                    how: how.clone(),
                    environment: environment.map_or_else(|| self.kept(ahead), str::to_owned),
                    ..self.this.clone()
                };
                match queue.line_up(hold, wait) {
                    // The last one to leave has just removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue 'again,
                    number => numbers.push(number?),
                }
            }
            return Ok(numbers);
        }
    }

    /// The environment in which this process, or one that started it, keeps the host.
    fn kept(&self, ahead: &[Queued]) -> String {
        let mut holds = ahead.iter().map(|other| &other.hold);
        let kept = holds.find(|hold| hold.how == Use::Environment && self.is_kin(hold));
        kept.map_or(String::new(), |hold| hold.environment.clone())
    }

    /// Those for whom a number has to wait.
    fn in_the_way<'a>(&self, number: &'a Number) -> Vec<&'a Hold> {
        let (mine, ahead) = (&number.hold, &number.ahead);
        // Who waits for what started this process, or for the environment that it keeps, waits for this use as well.
        let waits_for_us = |other: &Queued| {
            ahead.iter().any(|Queued { number, hold, .. }| {
                let lasts = hold.how == Use::Environment && self.is_kin(hold);
                *number < other.number
                    && (lasts || self.is_ancestors(hold))
                    && excludes(&other.hold, hold)
            })
        };
        // Changes of one process, too, come one after the other.
        let is_ours = |other: &Hold| mine.how != Use::Change && self.is_kin(other);
        let in_the_way = ahead.iter().filter(|other| {
            !is_ours(&other.hold) && excludes(mine, &other.hold) && !waits_for_us(other)
        });
        in_the_way.map(|other| &other.hold).collect()
    }

    fn is_kin(&self, hold: &Hold) -> bool {
        let is_this = (hold.namespace, hold.pid) == (self.this.namespace, self.this.pid);
        is_this || self.is_ancestors(hold)
    }

    fn is_ancestors(&self, hold: &Hold) -> bool {
        hold.namespace == self.this.namespace && self.ancestors.contains(&hold.pid)
    }
}

/// For whom `mine` waits, and why.
fn message(mine: &Hold, others: &[&Hold]) -> String {
    let mut users: Vec<String> = others.iter().map(|other| other.user()).collect();
    users.dedup();
    let (users, first) = (users.join(", "), others[0]);
    match (&mine.how, &first.how) {
        (Use::Suite(name), _) => format!("waiting for {users}: it has suite {name} set up"),
        (Use::Change, _) => format!("waiting for {users}, which changes or restores this host"),
        _ if mine.environment != first.environment => {
            let environment = at(&first.environment);
            format!("waiting for {users}, which needs this host {environment}")
        }
        (_, Use::Alone) => format!("waiting for {users}: it needs this host alone"),
        _ => format!("waiting to have this host alone: tests of {users} still run"),
    }
}

/// An environment's settings in words that follow "this host".
pub(super) fn at(settings: &str) -> String {
    let lines: Vec<String> = settings
        .lines()
        .map(|line| line.escape_debug().to_string())
        .collect();
    match lines.is_empty() {
        true => "as it is".to_owned(),
        false => format!("at {}", lines.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn never(message: &str) -> ControlFlow<()> {
        panic!("nobody is in the way: {message}")
    }

    /// A lock of another process, on the host in a directory.
    fn lock(directory: &Path, pid: u32) -> HostLock {
        let mut lock = HostLock::new(&Root::at(directory));
        (lock.this.pid, lock.this.command) = (pid, format!("program {pid}"));
        lock.ancestors = Vec::new();
        lock
    }

    /// For whom `lock` waits; what it holds where it waits for nobody.
    fn try_to_take(lock: &HostLock, how: &Use, environment: Option<&str>) -> Result<Held, String> {
        let mut said = String::new();
        let taken = lock.take_in(how, environment, &mut |message| {
            message.clone_into(&mut said);
            ControlFlow::Break(())
        });
        taken.map_err(|refusal| {
            assert_eq!(refusal, Refusal::Interrupted);
            said
        })
    }

    #[test]
    fn those_who_exclude_each_other_wait_for_each_other_by_name_and_others_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = [1001, 1002].map(|pid| lock(directory.path(), pid));
        let suite = |name: &str| Use::Suite(name.to_owned());
        for (first, then, says) in [
            ((Use::Shared, ""), (Use::Shared, ""), None),
            ((Use::Environment, ""), (Use::Alone, ""), None),
            (
                (Use::Environment, "tdp=off"),
                (Use::Environment, "tdp=off"),
                None,
            ),
            ((suite("a"), ""), (suite("b"), "tdp=off"), None),
            ((suite("a"), ""), (Use::Alone, ""), None),
            (
                (Use::Alone, ""),
                (Use::Shared, ""),
                Some(": it needs this host alone"),
            ),
            (
                (Use::Alone, ""),
                (Use::Alone, ""),
                Some(": it needs this host alone"),
            ),
            ((Use::Shared, ""), (Use::Alone, ""), Some(" still run")),
            (
                (Use::Shared, ""),
                (Use::Environment, "tdp=off"),
                Some(", which needs this host as it is"),
            ),
            (
                (Use::Environment, "a=1\nb=2"),
                (Use::Environment, ""),
                Some(", which needs this host at a=1, b=2"),
            ),
            (
                (Use::Environment, "a=1"),
                (Use::Shared, ""),
                Some(", which needs this host at a=1"),
            ),
            (
                (suite("a"), ""),
                (suite("a"), ""),
                Some(": it has suite a set up"),
            ),
            (
                (Use::Change, ""),
                (Use::Change, ""),
                Some(", which changes or restores this host"),
            ),
        ] {
            let held = try_to_take(&one, &first.0, Some(first.1)).unwrap();
            let waits = try_to_take(&two, &then.0, Some(then.1)).err();
            match (waits, says) {
                (None, None) => {}
                (Some(waits), Some(says)) => {
                    assert!(
                        waits.contains("pid 1001 (program 1001, started at 20"),
                        "{waits}"
                    );
                    assert!(waits.ends_with(says), "{waits}");
                }
                (waits, says) => panic!("{waits:?} rather than {says:?}"),
            }
            drop(held);
            assert!(try_to_take(&two, &then.0, Some(then.1)).is_ok());
        }
    }

    #[test]
    fn who_waits_for_others_is_waited_for_unless_it_waits_for_us() {
        let directory = tempfile::tempdir().unwrap();
        let [runs, waits, comes] = [1001, 1002, 1003].map(|pid| lock(directory.path(), pid));
        let _stay = try_to_take(&runs, &Use::Environment, Some("")).unwrap();
        let case = try_to_take(&runs, &Use::Shared, None).unwrap();
        let alone = waits.line_up(&Use::Alone, Some(""), &mut never).unwrap();
        for lock in [&runs, &comes] {
            let said = try_to_take(lock, &Use::Shared, None).unwrap_err();
            assert!(said.contains("pid 1002 "), "{said}");
        }
        // What a case has started must not wait for who waits for that case.
        let mut inner = lock(directory.path(), 1004);
        inner.ancestors = vec![1001];
        drop(try_to_take(&inner, &Use::Shared, None).unwrap());
        drop((case, alone));

        let change = waits.line_up(&Use::Environment, Some("tdp=off"), &mut never);
        let said = try_to_take(&comes, &Use::Environment, Some("")).unwrap_err();
        assert!(said.contains("pid 1002 "), "{said}");
        for lock in [&runs, &inner] {
            drop(try_to_take(lock, &Use::Shared, None).unwrap());
        }
        drop(change);
    }

    #[test]
    fn what_a_process_started_runs_in_its_environment() {
        let directory = tempfile::tempdir().unwrap();
        let [outer, mut inner, other] = [1001, 1002, 1003].map(|pid| lock(directory.path(), pid));
        let stay = try_to_take(&outer, &Use::Environment, Some("tdp=off")).unwrap();
        inner.ancestors = vec![1001];
        assert_eq!(inner.outer().unwrap().0, "tdp=off");
        assert_eq!((outer.outer(), other.outer()), (None, None));
        let case = try_to_take(&inner, &Use::Shared, None).unwrap();
        drop(stay);
        let said = try_to_take(&other, &Use::Environment, Some("")).unwrap_err();
        assert!(
            said.contains("pid 1002 ") && said.ends_with("at tdp=off"),
            "{said}"
        );
        drop(case);
    }

    #[test]
    fn nothing_is_left_and_what_the_dead_and_strangers_leave_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run/kvm-tests");
        let lock = lock(directory.path(), 1001);
        let held = try_to_take(&lock, &Use::Alone, None).unwrap();
        let dead = fs::read(run.join("holds/1")).unwrap();
        fs::write(run.join("holds/2"), dead).unwrap();
        fs::write(run.join("holds/18446744073709551615"), "dead, too").unwrap();
        symlink("/dev/zero", run.join("holds/4")).unwrap();
        let locked = fs::File::create(run.join("holds/5")).unwrap();
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
        drop(try_to_take(&lock, &Use::Alone, None).unwrap());
        drop(held);
        let mut left: Vec<_> = fs::read_dir(run.join("holds"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["4", "5"]);
        fs::remove_file(run.join("holds/4")).unwrap();
        drop(locked);
        drop(try_to_take(&lock, &Use::Shared, None).unwrap());
        assert!(!run.exists());
    }

    #[test]
    fn a_user_stands_in_roots_queue_while_there_is_one_and_always_in_his_own() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let [root, mut user, mut users] = [1001, 1002, 1003].map(|pid| lock(directory.path(), pid));
        for lock in [&mut user, &mut users] {
            lock.root = lock.root.clone().unprivileged();
        }
        assert!(
            user.limit().unwrap().contains("/tmp/kvm-tests-"),
            "{:?}",
            user.limit()
        );
        let before = try_to_take(&user, &Use::Shared, None).unwrap();
        let of_root = try_to_take(&root, &Use::Shared, None).unwrap();
        assert_eq!((user.limit(), root.limit()), (None, None));
        let said = try_to_take(&users, &Use::Alone, None).unwrap_err();
        assert!(said.contains("pid 1001 "), "{said}");
        drop(of_root);
        let said = try_to_take(&users, &Use::Alone, None).unwrap_err();
        assert!(said.contains("pid 1002 "), "{said}");
        drop(before);
        let alone = try_to_take(&users, &Use::Alone, None).unwrap();
        drop(alone);
        assert_eq!(
            fs::read_dir(directory.path().join("tmp")).unwrap().count(),
            0
        );

        // Somebody else was there first, with a link.
        symlink(directory.path(), queue::of_user(&user.root)).unwrap();
        let user = HostLock::new(&user.root);
        assert!(
            user.limit()
                .unwrap()
                .starts_with("none, other runs are not seen: ")
        );
        drop(try_to_take(&user, &Use::Alone, None).unwrap());
    }
}
