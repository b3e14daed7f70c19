//! What the kernel's log came to, at the end of a run.

use std::fmt::Write;

use super::splat::Splat;
use crate::model::taint;

/// How many of the cases that ran at the time of a splat are named.
const NAMED: usize = 12;

/// What there is to say of the kernel's log.
#[derive(Debug, Default)]
pub struct End {
    /// The splats that could not be shown to be a case's own.
    pub splats: Vec<Splat>,
    /// How many more of these there were.
    pub more: usize,
    /// How many were a case's own.
    pub owned: usize,
    /// How many were those of another run on this host.
    pub of_others: usize,
    /// How many were ignored, as the configuration says.
    pub ignored: usize,
    /// How many records were overwritten before they were read, at least.
    pub lost: u64,
    /// What kept the log from being read, or `kernel.log` from being written, after it had begun.
    pub problem: Option<String>,
}

/// The taint mask before and after a run.
#[derive(Debug, Clone, Copy)]
pub struct Taint {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

impl End {
    /// The same, where something is missing from `kernel.log` for this reason.
    #[must_use]
    pub fn with_problem(mut self, of_file: Option<String>) -> Self {
        let of_file = of_file.map(|error| format!("cannot write kernel.log: {error}"));
        self.problem = self.problem.or(of_file);
        self
    }

    /// Whether the run must not be taken for a good one, whatever became of its cases.
    pub fn has_failed(&self, taint: Taint) -> bool {
        !self.splats.is_empty() || self.is_unseen(taint) || self.problem.is_some()
    }

    /// Whether the taint mask tells of a splat of which the log did not.
    fn is_unseen(&self, taint: Taint) -> bool {
        let seen = self.splats.len() + self.owned + self.of_others + self.ignored;
        seen == 0 && taint::tells_of_splat(taint.before, taint.after)
    }

    /// What is printed at the end of the run; nothing where there is nothing to say.
    pub fn render(&self, taint: Taint) -> String {
        let mut text = String::new();
        self.write(&mut text, taint).expect("write to a string");
        text
    }

    fn write(&self, text: &mut String, taint: Taint) -> std::fmt::Result {
        if !self.splats.is_empty() {
            writeln!(
                text,
                "\nKERNEL SPLATS that are no case's own (kernel.log has all of their lines)"
            )?;
        }
        for splat in &self.splats {
            writeln!(text, "  {}\n    {}", splat.title, when(splat))?;
        }
        if self.more > 0 {
            writeln!(text, "  and {} more", self.more)?;
        }
        if self.is_unseen(taint) {
            writeln!(
                text,
                "\nKERNEL SPLAT that was not seen in the kernel's log: only the taint mask tells of it"
            )?;
        }
        if self.ignored > 0 {
            writeln!(
                text,
                "\nkernel splats ignored (kernel_log_ignore): {}",
                self.ignored
            )?;
        }
        if self.lost > 0 {
            writeln!(
                text,
                "\nKERNEL LOG NOT COMPLETE: {} records or more were overwritten before they were read, and splats may be \
                 among them (a larger log_buf_len= helps)",
                self.lost
            )?;
        }
        if let Some(problem) = &self.problem {
            writeln!(text, "\nKERNEL LOG NOT COMPLETE: {problem}")?;
        }
        if taint.before != taint.after {
            let [before, after] = [taint.before, taint.after].map(taint::show);
            writeln!(text, "\nKERNEL TAINT before: {before}; after: {after}")?;
            taint::meanings(taint.after & !taint.before)
                .try_for_each(|meaning| writeln!(text, "  {meaning}"))?;
        }
        Ok(())
    }
}

/// What was running when it began, in words.
pub fn when(splat: &Splat) -> String {
    let cases = &splat.while_running;
    if cases.is_empty() {
        return "while no case was running".to_owned();
    }
    let named = cases[..cases.len().min(NAMED)].join(", ");
    let more = cases.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("while this ran: {named}{more}")
}
