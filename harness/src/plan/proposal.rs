//! Reads suites from the JSON of the runner that was proposed for the kernel in 2024.
//!
//! A file is an array of suites. Its commands are lines for the shell in which nothing is replaced. A suite's `timeout_s`
//! and `arch` are the defaults of its tests; its `setup` and `teardown` are run once around all of them, in addition to
//! a test's own.

use std::path::Path;
use std::sync::Arc;

use crate::plan::fields::Item;
use crate::plan::node;
use crate::plan::placeholder::Template;
use crate::plan::settings::Settings;
use crate::plan::source::{Positions, Source};
use crate::plan::suite_file::{Names, Place, SuiteFile, TestEntry, What};

/// Reads every suite of a file that has at least a name; what is wrong is noted.
pub fn read(source: &Source<'_>) -> Vec<SuiteFile> {
    let Some(root) = node::from_json(source) else {
        return Vec::new();
    };
    let at = root.at;
    let Some(suites) = Item::root(source, root).list("an array of suites") else {
        return Vec::new();
    };
    if suites.len() == 0 {
        source.lacking(at, "no suite");
    }
    let path = source.path.into();
    let mut positions = source.positions();
    let mut read = |item| read_suite(item, &path, &mut positions);
    suites.filter_map(&mut read).collect()
}

fn read_suite(
    item: Item<'_, '_>,
    path: &Arc<Path>,
    positions: &mut Positions<'_>,
) -> Option<SuiteFile> {
    let mut fields = item.fields()?;
    let name = fields.require("suite", |item| Some((item.at, item.foreign_name()?.0)));
    let setup = fields.take("setup", line);
    let teardown = fields.take("teardown", line);
    let settings = Arc::new(Settings::default()).overridden_by_proposal(&mut fields);
    let name = name.map(|(at, name)| (positions.of(at), name));
    let tests = fields.require("tests", |item| {
        let (source, at) = (item.source, item.at);
        let items = item.list("an array of tests")?;
        if items.len() == 0 {
            source.lacking(at, "a suite without a test");
        }
        let mut names = Names::new(source, items.len());
        let mut read = |item| read_test(item, &settings, path, &mut names, positions);
        Some(items.filter_map(&mut read).collect())
    });
    fields.finish();
    let (position, name) = name?;
    let tests = tests.unwrap_or_default();
    Some(SuiteFile {
        path: Arc::clone(path),
        position: Some(position),
        name,
        setup,
        teardown,
        tests,
    })
}

fn read_test<'a>(
    item: Item<'_, 'a>,
    defaults: &Arc<Settings>,
    path: &Arc<Path>,
    names: &mut Names<'_, 'a>,
    positions: &mut Positions<'_>,
) -> Option<TestEntry> {
    let mut fields = item.fields()?;
    let name = fields.require("name", |item| {
        let at = item.at;
        let (name, written) = item.foreign_name()?;
        names
            .is_new(name.clone().into(), written, at)
            .then_some(name)
    });
    let command = fields.require("command", |item| Some((item.at, line(item)?)));
    let setup = fields.take("setup", line);
    let teardown = fields.take("teardown", line);
    let settings = defaults.overridden_by_proposal(&mut fields);
    fields.finish();
    let (at, command) = command?;
    Some(TestEntry {
        name: name?,
        what: What::Shell(command),
        setup,
        teardown,
        precheck: None,
        settings,
        place: Place {
            path: Arc::clone(path),
            position: positions.of(at),
        },
    })
}

fn line(item: Item<'_, '_>) -> Option<Template> {
    item.filled_text().map(Template::literal)
}
