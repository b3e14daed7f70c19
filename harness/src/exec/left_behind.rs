//! What outlives processes and was left on the host: compared once, before the first case and after the last.
//!
//! The kernel knows the time at most when such a thing was made, so it is told with the cases that ran then. Tests see the
//! host as it is: there are no namespaces that would hide one case from another.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

use crate::environment::hugepages_in_use;
use crate::model::event::LeftBehind;
use crate::model::host::size;
use crate::model::outcome::Outcome;
use crate::model::time::{milliseconds, of_seconds, whole_ms};

/// The directory of shm_open(3).
const DEV_SHM: &str = "/dev/shm";

/// File systems tell the time by the last tick of the clock, which may be as slow as 100 Hz.
const TICK_MS: u64 = 10;

/// Between which times a thing was made, in milliseconds since the epoch; `None` where the kernel does not tell.
type Made = Option<(u64, u64)>;

/// What outlives processes and is there at this moment: shared memory, semaphores, message queues, files in memory, mounts
/// and hugepages in use. Each by what tells it from the others, in words, and when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    things: BTreeMap<String, (String, Made)>,
    /// How many hugepages of each size, in bytes, are in use.
    hugepages: BTreeMap<u64, u64>,
}

impl Traces {
    /// This user's, as they are now. What cannot be read is taken for nothing.
    pub fn read() -> Self {
        let mut traces = Self {
            hugepages: hugepages_in_use(),
            ..Self::default()
        };
        traces.add_sysv();
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounts = String::from_utf8_lossy(&mounts).into_owned();
        traces.add_files(Path::new(DEV_SHM));
        for (id, place, kind) in mounts.lines().filter_map(mount) {
            if kind == "hugetlbfs" {
                traces.add_files(Path::new(place));
            }
            let what = format!("a mount of {kind} at {place}");
            traces.add(format!("mount {id} {place}"), what, None);
        }
        traces
    }

    /// What is there now and was not there `before`, with those of `outcomes` whose selftests ran when it was made.
    pub fn since(&self, before: &Self, outcomes: &[Outcome]) -> Vec<LeftBehind> {
        let new = |(key, _): &(&String, _)| !before.things.contains_key(*key);
        let new = self.things.iter().filter(new);
        let new = new.map(|(_, (what, made))| LeftBehind {
            what: what.clone(),
            made_ms: made.map(|(from, _)| from),
            cases: made.map_or_else(Vec::new, |made| ran_in(made, outcomes)),
        });
        let pages = self.hugepages.iter().filter_map(|(&page, &count)| {
            let more = count.checked_sub(*before.hugepages.get(&page).unwrap_or(&0))?;
            (more > 0).then(|| LeftBehind {
                what: format!("{more} more hugepages of {} in use", size(page)),
                made_ms: None,
                cases: Vec::new(),
            })
        });
        new.chain(pages).collect()
    }

    fn add(&mut self, key: String, what: String, made: Made) {
        self.things.insert(key, (what, made));
    }

    /// System V IPC. The columns of the ID, the creator's user and the time: ipc/shm.c, ipc/sem.c, ipc/msg.c.
    fn add_sysv(&mut self) {
        for (file, user, time) in [("shm", 9, 13), ("sem", 6, 9), ("msg", 9, 13)] {
            // Without CONFIG_SYSVIPC there is none.
            let text = fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let columns = line.split_whitespace().map(|number| number.parse().ok());
                let columns: Vec<Option<u64>> = columns.collect();
                let column = |number: usize| columns.get(number).copied().flatten();
                let Some(id) = column(1).filter(|_| column(user) == Some(own_id())) else {
                    continue;
                };
                let what = match file {
                    "shm" => {
                        let bytes = size(column(3).unwrap_or(0));
                        format!("{bytes} of shared memory (shmid {id})")
                    }
                    "sem" => format!("semaphores (semid {id})"),
                    _ => format!("a message queue (msqid {id})"),
                };
                let made_ms = column(time).map(|seconds| seconds.saturating_mul(1000));
                let made = made_ms.map(|from| (from, from.saturating_add(999)));
                self.add(format!("{file} {id}"), what, made);
            }
        }
    }

    /// This user's files in a directory of a file system that keeps them in memory; no deeper.
    fn add_files(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(file) = entry.metadata() else { continue };
            if u64::from(file.uid()) != own_id() {
                continue;
            }
            // hugetlbfs knows no time of birth.
            let made = file.created().or_else(|_| file.modified()).ok();
            let made = made.map(|made| (milliseconds(made), milliseconds(made) + TICK_MS));
            let path = entry.path();
            let what = format!("{} ({})", path.display(), size(file.len()));
            self.add(
                format!("file {} {}", path.display(), file.ino()),
                what,
                made,
            );
        }
    }
}

fn own_id() -> u64 {
    u64::from(geteuid().as_raw())
}

/// The names of the cases whose selftests ran at some time between these two.
fn ran_in((from, to): (u64, u64), outcomes: &[Outcome]) -> Vec<String> {
    let ran = outcomes.iter().filter(|outcome| {
        let duration_ms = whole_ms(of_seconds(outcome.duration_s));
        // One more, for what both times leave out of a millisecond.
        let end_ms = outcome
            .started_ms
            .saturating_add(duration_ms)
            .saturating_add(1);
        outcome.exit.is_some() && outcome.started_ms <= to && end_ms >= from
    });
    ran.map(|outcome| outcome.name.clone()).collect()
}

/// A line of mountinfo (proc_pid_mountinfo(5)): the mount's ID, its place, with white space as octal numbers, and the type of
/// its file system.
fn mount(line: &str) -> Option<(&str, &str, &str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let (id, place) = (fields.next()?, fields.nth(3)?);
    Some((id, place, file_system.split(' ').next()?))
}
