//! What the hosts of a run are called, where it has several.

use std::collections::{HashMap, HashSet};

use super::journal::{CONSOLES, FILES};
use crate::model::case::name::CaseName;
use crate::model::event::Part;

/// A host, and the cases of all runs that were there.
struct Slot<'a> {
    machine: Machine<'a>,
    label: String,
    cases: HashSet<&'a CaseName>,
}

/// What a machine is known by: there may be several of one name.
type Machine<'a> = (&'a str, &'a str);

/// What the host of each part is called; nothing where all are of one host, or of one run: that one went on on another host,
/// with its outputs where it began. The parts are in their order, with their cases.
///
/// A host is called by its name. Runs on it that have no case in common, such as shards, are on one host to whoever reads of
/// them. Where a case ran again in another run, that was on `NAME-2`: no outcome takes the place of another.
pub(super) fn labels(parts: &[(&Part, &[CaseName])]) -> Vec<Option<String>> {
    let mut cases: HashMap<_, HashSet<&CaseName>> = HashMap::new();
    for (part, of_part) in parts {
        cases
            .entry(run_on_machine(part))
            .or_default()
            .extend(*of_part);
    }
    let mut slots: Vec<Slot<'_>> = Vec::new();
    let mut slot_of = HashMap::new();
    for (part, _) in parts {
        // The first part of a run finds a place for all of it.
        if let Some(cases) = cases.remove(&run_on_machine(part)) {
            let slot = slot_for(&mut slots, part, &cases);
            slots[slot].cases.extend(cases);
            slot_of.insert(run_on_machine(part), slot);
        }
    }
    let is_one_run = parts.iter().all(|(part, _)| part.run == parts[0].0.run);
    let is_told = slots.len() > 1 && !is_one_run;
    let of_part = |(part, _): &(&Part, _)| {
        let has_label = is_told || part.label.is_some();
        has_label.then(|| slots[slot_of[&run_on_machine(part)]].label.clone())
    };
    parts.iter().map(of_part).collect()
}

/// Places that have no label are one host to whoever reads of them, whatever they are.
fn machine(part: &Part) -> Machine<'_> {
    match &part.place {
        Some(_) => (part.label.as_deref().unwrap_or(CONSOLES), ""),
        None => (&part.host.hostname, &part.host.cpu_vendor),
    }
}

/// A run may have gone on elsewhere.
fn run_on_machine(part: &Part) -> (&str, Machine<'_>) {
    (&part.run, machine(part))
}

/// The first place on the part's machine where none of `cases` is yet; a new one where there is none.
fn slot_for<'a>(slots: &mut Vec<Slot<'a>>, part: &'a Part, cases: &HashSet<&CaseName>) -> usize {
    let machine = machine(part);
    let is_free = |slot: &Slot<'_>| slot.machine == machine && slot.cases.is_disjoint(cases);
    if let Some(slot) = slots.iter().position(is_free) {
        return slot;
    }
    let name = directory_name(machine.0);
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let mut labels = std::iter::once(name.clone()).chain(numbered);
    let is_new = |label: &String| slots.iter().all(|slot| slot.label != *label);
    let label = labels.find(is_new).unwrap_or(name);
    slots.push(Slot {
        machine,
        label,
        cases: HashSet::new(),
    });
    slots.len() - 1
}

/// A host's name as that of a directory beside the files of a run.
fn directory_name(host: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name = host.replace(|c| !is_plain(c), "_");
    if name.is_empty() || name.starts_with(['.', '-']) || FILES.contains(&name.as_str()) {
        return format!("_{name}");
    }
    name
}
