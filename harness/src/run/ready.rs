//! A run that is ready to go.

use std::sync::Arc;
use std::time::Instant;

use super::earlier::Earlier;
use crate::exec::without_run;
use crate::log::History;
use crate::model::case::Case;
use crate::model::facts::Obstacle;
use crate::model::host::Root;
use crate::model::outcome::Outcome;
use crate::options::Options;
use crate::plan::{Discovered, Selection};

/// What is to run, and with what.
pub(super) struct Ready<'a> {
    pub(super) options: &'a Options,
    pub(super) root: Root,
    pub(super) discovered: Discovered,
    pub(super) selection: Selection,
    pub(super) cases: Arc<[Case]>,
    pub(super) filtered_out: usize,
    pub(super) history: History,
    pub(super) earlier: Option<Earlier>,
    pub(super) started: Instant,
}

impl Ready<'_> {
    /// Whether it is run, rather than told to be ignored.
    pub(super) fn is_executed(&self, case: &Case) -> bool {
        case.ignored.is_none() || (self.selection.runs_ignored() && case.crash().is_none())
    }

    /// The outcomes of those that are told to be ignored.
    pub(super) fn not_executed(&self) -> impl Iterator<Item = Outcome> {
        let cases = self.cases.iter().filter(|case| !self.is_executed(case));
        cases.map(|case| {
            let why = case.ignored.clone().unwrap_or_default();
            without_run(case, Obstacle::Ignored(why))
        })
    }
}
