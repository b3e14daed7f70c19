//! The settings of a test that its suite may set for all of its tests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel_log::ignore::Ignored;
use crate::model::case::Requires;
use crate::model::size;
use crate::plan::arch::Arch;
use crate::plan::fields::{Fields, Item, excerpt, hint, quoted};
use crate::plan::node::Value;
use crate::plan::placeholder::NCPUS;

/// A week: nobody waits longer for one test.
const MAX_TIMEOUT_S: u32 = 7 * 24 * 60 * 60;

/// The key of the splats to be ignored: in a suite or a test for their cases, in a file of its own for all.
pub const IGNORE: &str = "kernel_log_ignore";

/// More than any machine has CPUs, or any run has patience.
const MAX_COUNT: u32 = 1_000_000;

/// What both a suite and a test may say; a test's own word replaces its suite's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `timeout_s`: the seconds after which the test is killed. By default the command line's `--timeout`.
    pub timeout: Option<Duration>,
    /// `arch`: the architecture, or a list of those, that it is for. By default every one.
    pub arch: Option<Vec<Arch>>,
    /// `requires`: what the host must have: `cpus`, `memory`, `hugepages`. By default nothing.
    pub requires: Requires,
    /// `exclusive`: nothing else runs beside it. By default false.
    pub exclusive: bool,
    /// `weight`: how many of the run's slots it takes, or `"{ncpus}"`. By default one.
    pub weight: Weight,
    /// `iterations`: how often it runs in one run. By default once.
    pub iterations: u32,
    /// `kernel_log_ignore`: the kernel's splats that are no failure of it, each known by a part of one of its lines. By
    /// default none.
    pub ignored_splats: Ignored,
}

/// How many of a run's slots a test takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// This many.
    Slots(u32),
    /// As many as there are CPUs that the runner may use.
    Ncpus,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: None,
            arch: None,
            requires: Requires::default(),
            exclusive: false,
            weight: Weight::Slots(1),
            iterations: 1,
            ignored_splats: Ignored::default(),
        }
    }
}

impl Settings {
    /// Takes the settings from a table; `self` is what holds where it is silent, and is shared where it says nothing.
    pub fn overridden(self: &Arc<Self>, fields: &mut Fields<'_, '_>) -> Arc<Self> {
        let mut settings = Arc::clone(self);
        let all = &mut settings;
        set(all, fields.take("requires", requires), |settings| {
            &mut settings.requires
        });
        set(all, fields.take("exclusive", Item::boolean), |settings| {
            &mut settings.exclusive
        });
        set(all, fields.take("weight", weight), |settings| {
            &mut settings.weight
        });
        let iterations = fields.take("iterations", |item| item.number(1..=MAX_COUNT));
        set(all, iterations, |settings| &mut settings.iterations);
        let ignored_splats = fields.take(IGNORE, |item| patterns(item).map(Ignored::new));
        set(all, ignored_splats, |settings| &mut settings.ignored_splats);
        settings.overridden_by_proposal(fields)
    }

    /// The same for the two that the 2024 proposal knows.
    pub fn overridden_by_proposal(self: &Arc<Self>, fields: &mut Fields<'_, '_>) -> Arc<Self> {
        let mut settings = Arc::clone(self);
        set(
            &mut settings,
            fields.take("timeout_s", timeout).map(Some),
            |settings| &mut settings.timeout,
        );
        set(
            &mut settings,
            fields.take("arch", arch).map(Some),
            |settings| &mut settings.arch,
        );
        settings
    }
}

/// Sets what a table gives a `value`.
fn set<T>(
    settings: &mut Arc<Settings>,
    value: Option<T>,
    what: impl FnOnce(&mut Settings) -> &mut T,
) {
    if let Some(value) = value {
        *what(Arc::make_mut(settings)) = value;
    }
}

/// The patterns of an `ignored_splats`.
pub fn patterns(item: Item<'_, '_>) -> Option<Vec<String>> {
    let pattern = |item: Item<'_, '_>| {
        // An asterisk alone would ignore everything.
        if matches!(&item.value, Value::String(text) if text.chars().all(|c| c == '*' || c.is_whitespace()))
        {
            return item.wrong("a part of a line of the kernel's log");
        }
        item.text().map(Cow::into_owned)
    };
    Some(
        item.one_or_more()?
            .into_iter()
            .filter_map(pattern)
            .collect(),
    )
}

fn timeout(item: Item<'_, '_>) -> Option<Duration> {
    item.number(1..=MAX_TIMEOUT_S)
        .map(|seconds| Duration::from_secs(seconds.into()))
}

fn arch(item: Item<'_, '_>) -> Option<Vec<Arch>> {
    let one = |item: Item<'_, '_>| {
        let (source, at) = (item.source, item.at);
        let name = item.text()?;
        let arch = Arch::from_name(&name);
        if arch.is_none() {
            source.problem(
                at,
                format!(
                    "unknown architecture {}{}",
                    quoted(&name),
                    hint(&name, &Arch::names().collect::<Vec<_>>())
                ),
            );
        }
        arch
    };
    Some(item.one_or_more()?.into_iter().filter_map(one).collect())
}

fn weight(item: Item<'_, '_>) -> Option<Weight> {
    match &item.value {
        Value::String(text)
            if text
                .strip_prefix('{')
                .and_then(|text| text.strip_suffix('}'))
                == Some(NCPUS) =>
        {
            Some(Weight::Ncpus)
        }
        Value::Integer(_) => item.number(1..=MAX_COUNT).map(Weight::Slots),
        _ => item.wrong("a whole number or \"{ncpus}\""),
    }
}

fn requires(item: Item<'_, '_>) -> Option<Requires> {
    let mut fields = item.fields()?;
    let requires = Requires {
        cpus: fields
            .take("cpus", |item| item.number(1..=MAX_COUNT))
            .map(u64::from),
        memory: fields.take("memory", Item::size),
        hugepages: fields.take("hugepages", hugepages).unwrap_or_default(),
    };
    fields.finish();
    Some(requires)
}

/// A table from the size of a hugepage to how many of them.
fn hugepages(item: Item<'_, '_>) -> Option<BTreeMap<u64, u64>> {
    let mut hugepages = BTreeMap::new();
    for (size, at, count) in item.fields()?.entries() {
        let source = count.source;
        match size::parse(&size).filter(|bytes| bytes.is_power_of_two()) {
            None => source.problem(
                at,
                format!(
                    "{} is no size of a hugepage, as \"2M\" and \"1G\" are",
                    quoted(&size)
                ),
            ),
            Some(bytes) => {
                if let Some(count) = count.number(1..=u32::MAX)
                    && hugepages.insert(bytes, count.into()).is_some()
                {
                    source.problem(
                        at,
                        format!("hugepages of {} are required twice", excerpt(&size)),
                    );
                }
            }
        }
    }
    Some(hugepages)
}
