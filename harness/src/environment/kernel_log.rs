//! What the kernel has logged about KVM since a moment: the only place where it says why a parameter was not taken.

use super::root::Root;
use crate::kernel_log::kmsg::{Kmsg, News};

/// The kernel's log from a moment on.
#[derive(Debug)]
pub struct KernelLog {
    kmsg: Option<Kmsg>,
}

impl KernelLog {
    /// The log from now on; empty for ever where it may not be read.
    pub fn from_now_on(root: &Root) -> Self {
        Self {
            kmsg: Kmsg::open(root).ok(),
        }
    }

    /// The texts of the lines about KVM that were added since it was last asked.
    pub fn news(&mut self) -> Vec<String> {
        let Some(kmsg) = &mut self.kmsg else {
            return Vec::new();
        };
        let mut news = Vec::new();
        // What can be read no more has no news.
        kmsg.drain(|one| {
            let News::Record(record) = one else { return };
            let lines = record.text.lines().map(str::trim);
            news.extend(
                lines
                    .filter(|line| line.to_ascii_lowercase().contains("kvm"))
                    .map(str::to_owned),
            );
        })
        .ok();
        news.dedup();
        news
    }
}

/// What the kernel said, as the end of a sentence.
pub fn said(news: &[String]) -> String {
    let lines: Vec<String> = news
        .iter()
        .map(|line| format!("`{}`", line.escape_debug()))
        .collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("; the kernel says: {}", lines.join(", "))
    }
}
