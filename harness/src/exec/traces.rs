//! What on this host outlives the processes that made it: shared memory, semaphores, message queues, files in memory, mounts
//! and hugepages in use.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::geteuid;

use crate::model::host::size;
use crate::model::outcome::milliseconds;

/// By how much the kernel's seconds may be late: it counts them at its ticks, which a host of many guests may miss.
const LATE: Duration = Duration::from_millis(100);

/// The directory of shm_open(3).
const DEV_SHM: &str = "/dev/shm";

/// One such thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What it is, in words.
    pub what: String,
    /// Between which times it was made, in milliseconds since the epoch; `None` where the kernel does not tell.
    pub made_ms: Option<(u64, u64)>,
}

/// All that there is of this user's, each by what tells it from the others; the IDs of System V IPC are used again late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    things: BTreeMap<String, Trace>,
    /// How many hugepages of each size, in bytes, are in use.
    hugepages: BTreeMap<u64, u64>,
}

impl Traces {
    /// Those of now. What cannot be read is taken for nothing.
    pub fn read() -> Self {
        let mut things = BTreeMap::new();
        for segment in Segments::open().read() {
            things.insert(format!("shm {}", segment.id), segment.trace());
        }
        // Their creators' IDs are not told. The columns of the creator's user and of the time (ipc/sem.c, ipc/msg.c).
        for (file, words, user_column, time_column) in [
            ("sem", "semaphores (semid", 6, 9),
            ("msg", "a message queue (msqid", 9, 13),
        ] {
            for line in sysvipc(file) {
                let column = |number: usize| line.get(number).copied();
                let (Some(id), Some(made_s)) = (column(1), column(time_column)) else {
                    continue;
                };
                if column(user_column) == Some(i64::from(geteuid().as_raw())) {
                    let trace = Trace {
                        what: format!("{words} {id})"),
                        made_ms: second(made_s),
                    };
                    things.insert(format!("{file} {id}"), trace);
                }
            }
        }
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mut directories = vec![DEV_SHM.to_owned()];
        for line in String::from_utf8_lossy(&mounts).lines() {
            let Some(mount) = Mount::parse(line) else {
                continue;
            };
            if mount.kind == "hugetlbfs" {
                directories.push(mount.place.to_owned());
            }
            let what = format!("a mount of {} at {}", mount.kind, mount.place);
            things.insert(
                format!("mount {} {}", mount.id, mount.place),
                Trace {
                    what,
                    made_ms: None,
                },
            );
        }
        directories
            .iter()
            .for_each(|directory| add_files(Path::new(directory), &mut things));
        Self {
            things,
            hugepages: hugepages_in_use(),
        }
    }

    /// What is there now and was not there `before`.
    pub fn since(&self, before: &Self) -> Vec<Trace> {
        let new = self
            .things
            .iter()
            .filter(|(key, _)| !before.things.contains_key(*key));
        let pages = self.hugepages.iter().filter_map(|(&page, &count)| {
            let more = count.checked_sub(before.hugepages.get(&page).copied().unwrap_or(0))?;
            let what = format!("{more} more hugepages of {} in use", size(page));
            (more > 0).then_some(Trace {
                what,
                made_ms: None,
            })
        });
        new.map(|(_, trace)| trace.clone()).chain(pages).collect()
    }
}

/// A segment of System V shared memory (shmget(2)) of this user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its ID.
    pub id: i64,
    /// Its size in bytes.
    pub size: u64,
    /// The process that made it.
    pub creator: i64,
    /// How many processes have it attached.
    pub attached: i64,
    /// When it was made or last changed, in seconds since the epoch.
    pub made_s: i64,
}

/// All segments of System V shared memory: an open file, as they are looked for after each case.
#[derive(Debug)]
pub struct Segments(Option<File>);

impl Segments {
    /// Those of this host; none without CONFIG_SYSVIPC.
    pub fn open() -> Self {
        Self(File::open("/proc/sysvipc/shm").ok())
    }

    /// This user's that there are now. The file is all but empty on most hosts.
    pub fn read(&self) -> impl Iterator<Item = Segment> {
        let mut text = Vec::with_capacity(1024);
        if let Some(mut file) = self.0.as_ref() {
            // From its start, where the file is made anew (fs/seq_file.c).
            file.rewind()
                .and_then(|()| file.read_to_end(&mut text))
                .ok();
        }
        let own = i64::from(geteuid().as_raw());
        // key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime (ipc/shm.c)
        numbers(&String::from_utf8_lossy(&text))
            .into_iter()
            .filter_map(move |line| match line[..] {
                [
                    _,
                    id,
                    _,
                    size,
                    creator,
                    _,
                    attached,
                    _,
                    _,
                    made_by,
                    _,
                    _,
                    _,
                    made_s,
                    ..,
                ] if made_by == own => Some(Segment {
                    id,
                    size: u64::try_from(size).ok()?,
                    creator,
                    attached,
                    made_s,
                }),
                _ => None,
            })
    }
}

impl Segment {
    /// Whether the process `pid`, which was started at this time, made it: its ID is not given to another one before it has
    /// ended.
    pub fn is_of(&self, pid: i32, started: SystemTime) -> bool {
        let started = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let started_s = started.saturating_sub(LATE).as_secs();
        self.creator == i64::from(pid)
            && u64::try_from(self.made_s).is_ok_and(|made_s| made_s >= started_s)
    }

    /// It as a trace.
    pub fn trace(&self) -> Trace {
        let what = format!("{} of shared memory (shmid {})", size(self.size), self.id);
        Trace {
            what,
            made_ms: second(self.made_s),
        }
    }
}

/// The numbers in the lines of a file in /proc/sysvipc.
fn sysvipc(name: &str) -> Vec<Vec<i64>> {
    // Without CONFIG_SYSVIPC there is none.
    numbers(&fs::read_to_string(format!("/proc/sysvipc/{name}")).unwrap_or_default())
}

/// The numbers in all lines of `text` but the first.
fn numbers(text: &str) -> Vec<Vec<i64>> {
    let numbers = |line: &str| {
        line.split_whitespace()
            .map(|number| number.parse().ok())
            .collect()
    };
    text.lines().skip(1).filter_map(numbers).collect()
}

fn second(seconds: i64) -> Option<(u64, u64)> {
    let from = u64::try_from(seconds).ok()?.checked_mul(1000)?;
    Some((from, from + 999))
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    id: &'a str,
    /// Its mount point, with white space as octal numbers.
    place: &'a str,
    /// The type of its file system.
    kind: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (id, place) = (fields.next()?, fields.nth(3)?);
        Some(Self {
            id,
            place,
            kind: file_system.split(' ').next()?,
        })
    }
}

/// The files of this user's in a directory of a file system that keeps them in memory; no deeper.
fn add_files(directory: &Path, things: &mut BTreeMap<String, Trace>) {
    /// File systems tell the time by the last tick of the clock, which may be as slow as 100 Hz.
    const TICK: Duration = Duration::from_millis(10);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(file) = entry.metadata() else { continue };
        if file.uid() != geteuid().as_raw() {
            continue;
        }
        // hugetlbfs knows no time of birth.
        let made = file.created().or_else(|_| file.modified()).ok();
        let made_ms = made.map(|made| (milliseconds(made), milliseconds(made + TICK)));
        let what = format!("{} ({})", entry.path().display(), size(file.len()));
        things.insert(
            format!("file {} {}", entry.path().display(), file.ino()),
            Trace { what, made_ms },
        );
    }
}

fn hugepages_in_use() -> BTreeMap<u64, u64> {
    let pools = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let in_use = pools.filter_map(|pool| {
        let name = pool.file_name().into_string().ok()?;
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let read = |name: &str| {
            fs::read_to_string(pool.path().join(name))
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        };
        Some((
            kib * 1024,
            read("nr_hugepages")?.saturating_sub(read("free_hugepages")?),
        ))
    });
    in_use.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_whatever_optional_fields_it_has() {
        let mount = Mount::parse(
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue",
        );
        let mount = mount.unwrap();
        assert_eq!(
            (mount.id, mount.place, mount.kind),
            ("36", "/mnt\\0402", "ext3")
        );
        assert!(Mount::parse("36 35 98:0").is_none());
    }

    #[test]
    fn what_is_new_is_told_once_by_one() {
        let trace = |what: &str| Trace {
            what: what.to_owned(),
            made_ms: None,
        };
        let thing = |key: &str| (key.to_owned(), trace(key));
        let before = Traces {
            things: [thing("a"), thing("b")].into(),
            hugepages: [(2 << 20, 4), (1 << 30, 1)].into(),
        };
        let after = Traces {
            things: [thing("b"), thing("c")].into(),
            hugepages: [(2 << 20, 7), (1 << 30, 0)].into(),
        };
        assert_eq!(
            after.since(&before),
            [trace("c"), trace("3 more hugepages of 2M in use")]
        );
        assert_eq!(before.since(&before), []);
    }
}
