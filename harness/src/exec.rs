//! How a case comes to its facts, and these to an outcome.

mod crash;
mod environments;
mod executor;
mod left_behind;
mod schedule;
mod semaphore;
mod signals;
mod steps;
mod suite;
mod verdict;

pub use environments::Gate;
pub use executor::{Executor, without_run};
pub use left_behind::Traces;
pub use schedule::{repeat, repetitions, run_trials};
pub use semaphore::{Demand, Semaphore};
pub use signals::{LIMITS, Signals, Watch, end_with_input, signal_for};
pub use steps::StepContext;
pub use suite::Suites;
