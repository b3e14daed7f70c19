//! The keeper's promises, each with real processes that do their worst.

mod broken;
mod ended;
mod left;
mod output;
mod queued;
mod stage;
mod started;
