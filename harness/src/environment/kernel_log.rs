//! What the kernel has logged about KVM since a moment: the only place where it says why a parameter was not taken.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use rustix::fs::{Mode, OFlags};

use super::root::Root;

/// The kernel's log from a moment on.
#[derive(Debug)]
pub struct KernelLog {
    file: Option<File>,
}

impl KernelLog {
    /// The log from now on; empty for ever where it may not be read.
    pub fn from_now_on(root: &Root) -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(root.path("/dev/kmsg"), flags, Mode::empty()).map(File::from);
        let at_end = |mut file: File| file.seek(SeekFrom::End(0)).is_ok().then_some(file);
        Self { file: file.ok().and_then(at_end) }
    }

    /// The texts of the lines about KVM that were added since it was last asked.
    ///
    /// A record is `PRIORITY,NUMBER,TIME,…;TEXT`, and one read(2) gives one record (Documentation/ABI/testing/dev-kmsg).
    pub fn news(&mut self) -> Vec<String> {
        let Some(file) = &mut self.file else { return Vec::new() };
        let mut news = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            let length = match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => length,
                // The record was overwritten before it was read; the next one is still there.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {
                    continue;
                }
                Err(_) => break,
            };
            let text = String::from_utf8_lossy(&record[..length]);
            let texts = text.lines().filter_map(|line| line.split_once(';')).map(|(_, text)| text.trim());
            news.extend(texts.filter(|text| text.to_ascii_lowercase().contains("kvm")).map(str::to_owned));
        }
        news.dedup();
        news
    }
}

/// What the kernel said, as the end of a sentence.
pub fn said(news: &[String]) -> String {
    let lines: Vec<String> = news.iter().map(|line| format!("`{}`", line.escape_debug())).collect();
    if lines.is_empty() { String::new() } else { format!("; the kernel says: {}", lines.join(", ")) }
}
