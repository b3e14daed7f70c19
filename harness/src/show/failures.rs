//! The failures of a run for people: grouped, with what there is to say of each.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::model::outcome::signature::{normalised, without_chance};
use crate::model::outcome::{Exit, Outcome, Status};
use crate::model::state::State;
use crate::model::text::{named, one_line, plural, printable, printable_within};

/// How many cases that did not run for the same reason have a line each.
const FEW: usize = 3;

/// How many names a line has.
const NAMED: usize = 4;

/// From so many environments on, all of them are not named.
const ALL: usize = 3;

/// The most of a failure's reason that is shown, in bytes.
const REASON: usize = 8 * 1024;

/// What the reasons of cases begin with that did not run, or not to their end, because the run was interrupted.
const INTERRUPTED: &str = "interrupted";

/// A failure in one line.
pub(super) fn failure(outcome: &Outcome) -> String {
    let (name, reason) = (one_line(&outcome.name), one_line(&outcome.message()));
    format!("{} {name}: {reason}", outcome.kind().as_str())
}

/// What there is to say of a failure beside the first line of its reason.
pub(super) fn details(outcome: &Outcome, results: &Path) -> Vec<String> {
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let reason = printable_within(reason.as_bytes(), REASON);
    let mut lines: Vec<_> = reason.lines().skip(1).map(str::to_owned).collect();
    for splat in &outcome.splats {
        let is_place = |line: &&String| line.contains("RIP: ") || line.contains("pc : ");
        let place = splat.lines.iter().find(is_place);
        let told = [Some(&splat.title), place].into_iter().flatten();
        let told = told.filter(|line| !reason.contains(line.as_str()));
        lines.extend(told.map(|line| format!("kernel: {}", one_line(line.trim()))));
    }
    let host = Path::new(outcome.host.as_deref().unwrap_or_default());
    let log = outcome.splats.first().map(|_| host.join("kernel.log"));
    for (label, place) in [
        ("kernel:   ", log.as_deref()),
        ("output:   ", outcome.output.as_deref()),
    ] {
        let path = place.map(|place| one_line(&results.join(place).to_string_lossy()));
        lines.extend(path.map(|path| format!("{label} {path}")));
    }
    // A shell command may have several lines, and is to be copied.
    let reproduce = outcome.reproduce_line(|command| printable(command.as_bytes()));
    let reproduce = reproduce.unwrap_or_default();
    lines.extend(reproduce.lines().map(str::to_owned));
    lines
}

/// What ended with `status`, a failure: one entry for each case and reason, or, where it did not run, for each reason. Of an
/// entry's lines the first one stands alone.
pub(super) fn entries(state: &State, status: Status, results: &Path) -> Vec<Vec<String>> {
    let mut alike = BTreeMap::<_, Vec<&Outcome>>::new();
    for one in state.of_kind(status) {
        let reason = match status {
            Status::NoRun if one.first_line().starts_with(INTERRUPTED) => INTERRUPTED.to_owned(),
            Status::NoRun => one.first_line().to_owned(),
            Status::TimedOut => normalised(without_chance(one.first_line())),
            // Of the numbers in it only an exit code makes another failure.
            _ => format!("{:?} {}", one.exit, normalised(one.first_line())),
        };
        let case = (status != Status::NoRun).then_some((&one.suite, &one.variant));
        alike.entry((case, reason)).or_default().push(one);
    }
    if alike.is_empty() {
        return Vec::new();
    }
    let mut by_case = HashMap::<_, Vec<&Outcome>>::new();
    for one in &state.outcomes {
        let case = (&one.suite, &one.variant);
        by_case.entry(case).or_default().push(one);
    }
    let entry = |one: &Outcome, name: &str| {
        let line = format!("{}: {}", one_line(name), one_line(one.first_line()));
        [vec![line], details(one, results)].concat()
    };
    let entries = alike
        .into_iter()
        .flat_map(|((case, reason), members)| match case {
            Some(case) if by_case[&case].len() > 1 => {
                let (suite, variant) = case;
                let places = places(&members, &by_case[&case]);
                let name = format!("{suite}::{variant}  {places}");
                vec![entry(members[0], &name)]
            }
            None if members.len() > FEW => vec![vec![many(&reason, &members)]],
            _ => members.iter().map(|one| entry(one, &one.name)).collect(),
        });
    entries.collect()
}

/// Many cases that did not run for the same reason.
fn many(reason: &str, cases: &[&Outcome]) -> String {
    let is_interrupted = reason == INTERRUPTED;
    let (count, reason) = (cases.len(), one_line(reason));
    let is_told = |one: &&&Outcome| !is_interrupted || one.exit == Some(Exit::Interrupted);
    let told = cases.iter().filter(is_told);
    let names = named(&told.map(|one| &one.name).collect::<Vec<_>>(), NAMED);
    match is_interrupted {
        true if names.is_empty() => format!("{count} did not run: {reason}"),
        true => format!("{count} did not run: {reason} (while these ran: {names})"),
        false => format!("{count} did not run: {reason}: {names}"),
    }
}

/// The host, where there are several, and the environment.
fn place(outcome: &Outcome) -> (Option<&str>, Option<&str>) {
    (outcome.host.as_deref(), outcome.environment.as_deref())
}

/// Where a case failed alike, and what became of it elsewhere: `shadow_mmu ✗, 12 others ✓`.
fn places(members: &[&Outcome], all: &[&Outcome]) -> String {
    let mut environments = BTreeMap::<_, Vec<&Outcome>>::new();
    for one in all {
        environments.entry(place(one)).or_default().push(one);
    }
    let (mut failed, mut others) = (Vec::new(), [(0, "✓"), (0, "skipped"), (0, "otherwise")]);
    for (environment, cases) in environments {
        let is_here = |one: &&&Outcome| place(one) == environment;
        let (host, environment) = environment;
        let label = match (host, environment) {
            (Some(host), Some(environment)) => format!("{host}::{environment}"),
            (one, other) => one.or(other).unwrap_or("host").to_owned(),
        };
        let are_all = |status| cases.iter().all(|one| one.status == status);
        match (members.iter().filter(is_here).count(), cases.len()) {
            (0, _) if are_all(Status::Passed) => others[0].0 += 1,
            (0, _) if are_all(Status::Skipped) => others[1].0 += 1,
            (0, _) => others[2].0 += 1,
            (_, 1) => failed.push(label),
            (count, all) => failed.push(format!("{label} {count} of {all}")),
        }
    }
    let mut text = match failed.len() >= ALL && members.len() == all.len() {
        true => format!("all {} ✗", failed.len()),
        false => named(&failed, NAMED) + " ✗",
    };
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!(", {} {what}", plural(count, "other"));
    }
    text
}
