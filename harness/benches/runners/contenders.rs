//! Everyone who can run a list of programs, and how each is asked to.

mod builds;
mod frameworks;
mod ours;
mod shells;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::measure::{self, Figures};
use crate::workload::Workload;

pub(crate) use ours::results;

/// Somebody who runs a list of programs.
pub(crate) struct Contender {
    /// Its name.
    pub(crate) name: &'static str,
    command: MakeCommand,
}

/// Makes the command for a round: what keeps results keeps them in a new directory each time.
type MakeCommand = Box<dyn Fn(usize) -> Command>;

impl Contender {
    /// Runs the whole of `workload`; `None` if it takes longer than `limit`.
    pub(crate) fn run(
        &self,
        workload: &Workload,
        round: usize,
        limit: Duration,
    ) -> Option<Figures> {
        let mut command = (self.command)(round);
        if command.get_current_dir().is_none() {
            command.current_dir(workload.directory());
        }
        let figures = measure::run_within(&command, limit)?;
        assert!(
            figures.code == 0 || workload.may_fail,
            "{command:?} exits with {}",
            figures.code
        );
        Some(figures)
    }
}

/// Those who are here, the floor first and this project second, and the names of those who are not, with the reason.
pub(crate) fn all(workload: &Workload, workers: usize) -> (Vec<Contender>, Vec<String>) {
    let (mut here, mut absent) = (Vec::new(), Vec::new());
    for (name, prepare) in CONTENDERS {
        match prepare(workload, workers) {
            Ok(command) => here.push(Contender { name, command }),
            Err(reason) => absent.push(format!("{name} ({reason})")),
        }
    }
    (here, absent)
}

/// The bare loop's name.
pub(crate) const FLOOR: &str = "bare posix_spawn loop";

/// This project's name, where it knows the durations.
pub(crate) const OURS: &str = "**kvm-tests**";

/// What gets one ready, once, or the reason why that cannot be.
type Prepare = fn(&Workload, usize) -> Result<MakeCommand, &'static str>;

const CONTENDERS: &[(&str, Prepare)] = &[
    (FLOOR, ours::bare),
    (OURS, ours::again),
    ("kvm-tests, first run", ours::first),
    ("xargs -P", shells::xargs),
    ("GNU parallel", shells::parallel),
    ("kselftest's runner.sh", shells::kselftest),
    ("prove -j", frameworks::prove),
    ("ctest -j", builds::ctest),
    ("meson test", builds::meson),
    ("cargo nextest", builds::nextest),
    ("avocado", frameworks::avocado),
    ("LTP's kirk", frameworks::kirk),
];

fn find(name: &str) -> Result<PathBuf, &'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name));
    places.find(|path| path.is_file()).ok_or("not installed")
}
