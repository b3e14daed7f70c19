//! Which selftests these are: two machines are to have the same.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kernel_src::BUILT_FROM;
use crate::model::file;
use crate::model::planned::Fnv;
use crate::model::text::printable;

/// How much is read of the beginning of a file, where a program's build ID stands, and of its end.
const READ: u64 = 4096;

/// The commit that they were built from, where one place has them all and says so; else a hash of them. Where the tree had
/// changes, both.
pub(super) fn commit_of(directories: &[PathBuf], files: &[Arc<Path>]) -> Option<String> {
    let source = match directories {
        [] => return None,
        [one] => built_from(one).unwrap_or_default(),
        _ => String::new(),
    };
    if !source.is_empty() && !source.ends_with("-dirty") {
        return Some(source);
    }
    let hash = files.iter().fold(Fnv::default(), |hash, file| {
        let name = file.file_name().unwrap_or_default();
        let hash = hash.with(name.as_encoded_bytes());
        // What cannot be read has its name alone.
        hash.with(&ends(file).unwrap_or_default())
    });
    Some(format!("{source} {}", hash.text()).trim_start().to_owned())
}

fn built_from(directory: &Path) -> Option<String> {
    let parent = directory.parent().filter(|_| directory.ends_with("kvm"));
    let mut places = std::iter::once(directory).chain(parent);
    let text = places.find_map(|place| file::read(&place.join(BUILT_FROM)).ok())?;
    Some(printable(text.trim_ascii()))
}

/// A file's length, beginning and end.
fn ends(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = length.to_le_bytes().to_vec();
    file.by_ref().take(READ).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
    file.take(READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}
