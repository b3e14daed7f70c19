//! Changes the host as planned: the journal first, then the change, then a look at every value.

use super::Refusal;
use super::device::Permissions;
use super::hugepages;
use super::journal::{Arguments, FileBefore, Journal, ModuleBefore, ParameterBefore};
use super::loader::Loader;
use super::module::Module;
use super::plan::Plan;
use super::restore::{Difference, Return, restore};
use super::root::Root;
use super::target::{Place, Target, chosen};

/// What brings the modules back to what they were, found out once: what the user had set by hand comes back only if
/// it is passed again, and what merely follows from that must not be passed.
#[derive(Debug, Clone)]
pub struct Baseline {
    modules: Vec<ModuleBefore>,
    arguments: Arguments,
}

/// Changes the host, and answers what the user should know besides.
///
/// # Errors
/// Why it was not possible; everything is put back then, or it is said what could not be.
pub fn apply(
    root: &Root,
    plan: &Plan,
    baseline: &mut Option<Baseline>,
) -> Result<Vec<String>, Refusal> {
    let mut journal = Journal::new(root, &plan.environment, &plan.settings);
    journal.modules = modules_before(plan);
    journal.unloaded.clone_from(&plan.unloaded);
    journal.files = files_before(root, plan).map_err(Refusal::Refused)?;
    journal.device = Permissions::read(root).filter(|_| plan.reload.is_some());
    let unsaved = |error: std::io::Error| {
        Refusal::Refused(format!(
            "write {}: {error}",
            super::journal::path(root).display()
        ))
    };
    journal.save(root).map_err(unsaved)?;
    let changed = change(root, plan, &mut journal, baseline).and_then(|notes| {
        journal.entered = true;
        journal.save(root).map_err(unsaved)?;
        Ok(notes)
    });
    changed.map_err(|refusal| match restore(root, &journal) {
        Ok(()) => refusal.and("everything is as it was"),
        Err(problems) => refusal.into_failure().and(&problems.join("; ")),
    })
}

fn change(
    root: &Root,
    plan: &Plan,
    journal: &mut Journal,
    baseline: &mut Option<Baseline>,
) -> Result<Vec<String>, Refusal> {
    let mut loader = Loader::new(root);
    let mut notes = Vec::new();
    if plan.reload.is_some() {
        // 1. What the user had set by hand is known only once the modules were loaded without it.
        if plan.reloaded().iter().all(Module::is_live) {
            journal.arguments = baseline_of(root, journal, baseline).map_err(Refusal::Failed)?;
            journal
                .save(root)
                .map_err(|error| Refusal::Failed(format!("write the journal: {error}")))?;
        }
        // 2. The modules, with that and with what is wanted.
        let mut arguments = journal.arguments.clone();
        for target in plan
            .targets
            .iter()
            .filter(|target| plan.is_argument(target))
        {
            if let Place::Parameter(module, name) = &target.knob {
                arguments
                    .entry(module.clone())
                    .or_default()
                    .insert(name.clone(), target.to.clone());
            }
        }
        let names: Vec<&str> = plan
            .reloaded()
            .iter()
            .map(|module| module.name.as_str())
            .collect();
        loader.reload(&names, &arguments).map_err(Refusal::Failed)?;
        // 3. What can be written was lost with them.
        Return::of(root, journal).write_back(|difference| !is_wanted(plan, difference));
        if let Some(permissions) = &journal.device {
            notes.extend(permissions.put_back(root).err());
        }
    }
    // 4. What can be written.
    for target in plan
        .targets
        .iter()
        .filter(|target| !plan.is_argument(target))
    {
        if !target.now(root).is_some_and(|now| target.agrees(&now)) {
            root.write(target.path(), &target.to).map_err(|error| {
                let said = loader.kernel_said();
                Refusal::Failed(format!(
                    "write {} to {}: {error}{said}",
                    target.to,
                    target.path()
                ))
            })?;
        }
    }
    // 5. The kernel ignores unknown and late parameters without a word: only what is read counts.
    for target in &plan.targets {
        check(root, target, &mut loader)?;
    }
    notes.extend(also_changed(root, plan, journal));
    Ok(notes)
}

fn check(root: &Root, target: &Target, loader: &mut Loader<'_>) -> Result<(), Refusal> {
    let now = target.now(root);
    if now.as_deref().is_some_and(|now| target.agrees(now)) {
        return Ok(());
    }
    let reads = now.map_or_else(
        || "cannot be read".to_owned(),
        |now| format!("reads {}", now.escape_debug()),
    );
    let label = target.label();
    let said = loader.kernel_said();
    Err(match (&target.knob, target.turns_on) {
        (Place::Hugepages(_), _) => Refusal::Failed(format!(
            "{label} {reads} instead of {}: memory is short, or too fragmented{said}",
            target.to
        )),
        (_, Some(feature)) => Refusal::Impossible(format!(
            "the kernel does not turn `{feature}` on, which this CPU may lack: {label} was set to {} and {reads}{said}",
            target.to
        )),
        _ => Refusal::Failed(format!(
            "{label} was set to {}, but {reads}{said}",
            target.to
        )),
    })
}

/// What follows from the change: parameters that nobody set and that read otherwise now.
fn also_changed(root: &Root, plan: &Plan, journal: &Journal) -> Vec<String> {
    let mut changed = Return::of(root, journal).differences();
    changed.retain(|difference| !is_wanted(plan, difference));
    let in_words = |difference: Difference| {
        format!(
            "{}.{} reads {} with it",
            difference.module,
            difference.name,
            difference.now.escape_debug()
        )
    };
    changed.into_iter().map(in_words).collect()
}

fn is_wanted(plan: &Plan, difference: &Difference) -> bool {
    let knob = Place::Parameter(difference.module.clone(), difference.name.clone());
    plan.targets.iter().any(|target| target.knob == knob)
}

fn baseline_of(
    root: &Root,
    journal: &Journal,
    known: &mut Option<Baseline>,
) -> Result<Arguments, String> {
    if let Some(known) = known
        && known.modules == journal.modules
    {
        return Ok(known.arguments.clone());
    }
    let arguments = Return::of(root, journal).reload().map_err(|problems| {
        format!(
            "loading the modules anew did not bring back what they were: {}",
            problems.join("; ")
        )
    })?;
    *known = Some(Baseline {
        modules: journal.modules.clone(),
        arguments: arguments.clone(),
    });
    Ok(arguments)
}

fn modules_before(plan: &Plan) -> Vec<ModuleBefore> {
    if plan.reload.is_none() {
        return Vec::new();
    }
    let before = |module: &Module| ModuleBefore {
        name: module.name.clone(),
        loaded: module.is_live(),
        reload: plan
            .reloaded()
            .iter()
            .any(|reloaded| reloaded.name == module.name),
        parameters: module
            .parameters
            .iter()
            .filter_map(|(name, parameter)| {
                let value = parameter.value.clone()?;
                Some((
                    name.clone(),
                    ParameterBefore {
                        value,
                        writable: parameter.writable,
                    },
                ))
            })
            .collect(),
    };
    plan.platform.modules.iter().map(before).collect()
}

fn files_before(root: &Root, plan: &Plan) -> Result<Vec<FileBefore>, String> {
    let mut files = Vec::new();
    for target in plan
        .targets
        .iter()
        .filter(|target| !plan.is_argument(target))
    {
        if let Place::Parameter(module, _) = &target.knob
            && plan
                .reloaded()
                .iter()
                .any(|reloaded| reloaded.name == *module)
        {
            // It comes back with its module.
            continue;
        }
        let paths = match &target.knob {
            Place::Hugepages(path) => hugepages::written_with(root, path),
            Place::Parameter(..) | Place::File(_) => vec![target.path()],
        };
        for path in paths {
            let value = root
                .read(&path)
                .map_err(|error| format!("read {path}: {error}"))?;
            files.push(FileBefore {
                value: chosen(&value).to_owned(),
                path,
            });
        }
    }
    Ok(files)
}
