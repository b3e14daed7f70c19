//! The keeper's promises, each with real processes that do their worst.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[path = "keeper/broken.rs"]
mod broken;
#[path = "keeper/ended.rs"]
mod ended;
#[path = "keeper/left.rs"]
mod left;
#[path = "keeper/output.rs"]
mod output;
#[path = "keeper/queued.rs"]
mod queued;
#[path = "keeper/stage.rs"]
mod stage;
#[path = "keeper/started.rs"]
mod started;
