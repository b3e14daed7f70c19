//! Everybody on one workload, in turns.

use std::time::Duration;

use crate::Options;
use crate::contenders::{self, Contender};
use crate::measure::Figures;
use crate::table;
use crate::workload::Workload;

/// Who takes longer than this is not asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of a workload.
pub(crate) struct Comparison {
    limit: Duration,
    /// With the round that took the least time, and its figures.
    contenders: Vec<(Contender, Option<(usize, Figures)>)>,
    absent: Vec<String>,
}

impl Comparison {
    /// Runs `workload` by everyone.
    pub(crate) fn new(workload: &Workload, workers: usize, options: &Options) -> Self {
        let (contenders, absent) = contenders::all(workload, workers);
        let mut contenders: Vec<(Contender, Option<(usize, Figures)>)> = contenders
            .into_iter()
            .map(|contender| (contender, None))
            .collect();
        for round in 0..options.rounds {
            for (contender, best) in &mut contenders {
                if round == 0 || best.is_some_and(|(_, best)| best.wall < PATIENCE) {
                    let this = contender
                        .run(workload, round, options.limit)
                        .map(|figures| (round, figures));
                    *best = best
                        .take()
                        .into_iter()
                        .chain(this)
                        .min_by_key(|(_, figures)| figures.wall);
                }
            }
        }
        Self {
            limit: options.limit,
            contenders,
            absent,
        }
    }

    /// The bare loop.
    pub(crate) fn floor(&self) -> Figures {
        self.best(contenders::FLOOR).1
    }

    /// Which round took this project the least time, when it knew the durations.
    pub(crate) fn best_round_of_ours(&self) -> usize {
        self.best(contenders::OURS).0
    }

    fn best(&self, name: &str) -> (usize, Figures) {
        let mut bests = self
            .contenders
            .iter()
            .filter(|(contender, _)| contender.name == name);
        bests
            .next()
            .and_then(|(_, best)| *best)
            .unwrap_or_else(|| panic!("{name} does not end in time"))
    }

    /// Prints who took how long, as ratios to `unit` too, which is called `of`.
    pub(crate) fn print(&self, title: &str, of: &str, unit: Duration) {
        let floor = self.floor();
        let row = |(contender, best): &(Contender, Option<(usize, Figures)>)| {
            let name = contender.name.to_owned();
            let Some((_, figures)) = best else {
                let limit = self.limit.as_secs_f64();
                let ratio = table::ratio(self.limit, unit);
                return [
                    name,
                    format!("> {limit} s"),
                    format!("> {ratio}"),
                    String::new(),
                    String::new(),
                ];
            };
            [
                name,
                table::seconds(figures.wall),
                table::ratio(figures.wall, unit),
                table::seconds(figures.cpu.saturating_sub(floor.cpu)),
                table::megabytes(figures.peak),
            ]
        };
        let rows: Vec<_> = self.contenders.iter().map(row).collect();
        table::print(title, ["", "wall", of, "own CPU", "peak memory"], &rows);
        if !self.absent.is_empty() {
            println!("\nLeft out: {}.", self.absent.join(", "));
        }
    }
}
