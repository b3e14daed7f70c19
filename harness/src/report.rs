//! What a run leaves for other programs and for people, written from its state: reports know no process.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::ensure;

use crate::model::file;
use crate::model::state::State;
use reported::Reported;

mod html;
mod junit;
mod kcidb;
mod ktap;
mod reported;
mod tmt;

/// Writes one report.
type Writer = fn(&Reported<'_>, &mut dyn Write) -> io::Result<()>;

/// The files in a run's directory, and what writes them.
const REPORTS: [(&str, Writer); 3] = [
    ("junit.xml", junit::write),
    ("results.ktap", ktap::write),
    ("report.html", html::write),
];

/// Writes all reports of the run in a directory, each in one step: readers see the old one or the new one. Returns what it
/// wrote.
///
/// # Errors
/// Some reports cannot be written; the others are.
pub fn write_all(state: &State, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let run = Reported::new(state, directory)?;
    let (mut written, mut problems) = (Vec::new(), Vec::new());
    for (name, write) in REPORTS {
        let path = directory.join(name);
        match file::replace(&path, |out| write(&run, out)) {
            Ok(()) => written.push(path),
            Err(error) => problems.push(format!("write {}: {error}", path.display())),
        }
    }
    ensure!(problems.is_empty(), problems.join("\n"));
    Ok(written)
}

/// A form of a run that is printed, and no file of its directory.
#[derive(Debug, Clone)]
pub enum PrintedForm {
    /// For KCIDB: reported by this CI system, of a build that is known there by this ID.
    Kcidb {
        /// The CI system's name.
        origin: String,
        /// The build's ID.
        build_id: String,
    },
    /// For tmt: the outputs are named where the run lies in this directory, the test's.
    Tmt {
        /// `TMT_TEST_DATA`
        data: Option<PathBuf>,
    },
}

/// The run in a directory in this form, as JSON.
///
/// # Errors
/// The state is that of no run.
pub fn printed(state: &State, directory: &Path, form: &PrintedForm) -> anyhow::Result<String> {
    let run = Reported::new(state, directory)?;
    let document = match form {
        PrintedForm::Kcidb { origin, build_id } => kcidb::document(&run, origin, build_id),
        PrintedForm::Tmt { data } => tmt::document(&run, data.as_deref()),
    };
    Ok(format!("{document:#}\n"))
}
