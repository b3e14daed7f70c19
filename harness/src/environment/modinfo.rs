//! What modinfo tells of the modules on the disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::program;
use super::root::Root;

/// What modinfo has told: its files do not change while tests run, so that each question is asked once.
#[derive(Debug, Default)]
pub struct Modinfo(Mutex<HashMap<Vec<String>, Option<String>>>);

impl Modinfo {
    /// What it prints for `args`; `None` where it fails, as it does for a module that is not there.
    pub fn ask(&self, root: &Root, args: &[&str]) -> Option<String> {
        let question: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&question) {
            return answer.clone();
        }
        let ended = program::run(&root.program("modinfo")?, args, root.program_time).ok()?;
        let answer = ended.success().then_some(ended.stdout);
        answers.insert(question, answer.clone());
        answer
    }
}
