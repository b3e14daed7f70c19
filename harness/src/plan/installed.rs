//! The tests of an installed tree that `kvm-tests kselftest` runs: each one by itself, of whatever collection.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::files::{Configuration, read_embedded};
use super::selftests::{Selftest, Selftests, not_compiled, other_names};
use super::suite::{SuiteFile, TestEntry, What};
use crate::embedded::Embedded;
use crate::model::case::name::to_identifier;
use crate::model::case::{KVM, NO_TIMEOUT};
use crate::options::InstalledTest;

/// The selftests of `tree` that these tests are, and a suite of each test alone.
pub(super) fn of(
    tests: &[InstalledTest],
    tree: &Path,
    embedded: &Embedded<'_>,
    ncpus: u32,
) -> (Selftests, Vec<SuiteFile>) {
    let named = named(tests, tree);
    let shipped = read_embedded(embedded.suites, ncpus);
    let suites = tests.iter().zip(&named);
    let suites = suites.map(|(test, selftest)| suite(test, &selftest.name, &shipped));
    let suites = suites.collect();
    (Selftests::of(named, tree), suites)
}

/// The selftest of each test, with a name of its own: that of its file without `.sh`, if no test before it has that.
fn named(tests: &[InstalledTest], tree: &Path) -> Vec<Selftest> {
    let broken = not_compiled(tree);
    let mut names = HashSet::new();
    let named = tests.iter().map(|test| {
        let is_kvms = test.collection == KVM;
        let broken = if is_kvms { broken.as_slice() } else { &[] };
        let path = tree.join(&test.collection).join(&test.test);
        let selftest = Selftest::listed(path, broken);
        let mut name = selftest.name.clone();
        if names.contains(&name) {
            name = to_identifier(&test.name());
        }
        while !names.insert(name.clone()) {
            name.push('_');
        }
        let collection = test.collection.as_str().into();
        Selftest {
            name,
            collection,
            ..selftest
        }
    });
    named.collect()
}

/// The test alone. What is shipped for the selftest says how many others may run beside it, and nothing else.
fn suite(test: &InstalledTest, name: &str, shipped: &Configuration) -> SuiteFile {
    let mut entry = TestEntry::default_of(name.to_owned());
    let mut names = std::iter::once(name).chain(other_names(name));
    let beside = names.find_map(|name| shipped.defaults.get(name));
    if let Some(beside) = beside.filter(|_| test.collection == KVM) {
        (entry.exclusive, entry.weight) = (beside.exclusive, beside.weight);
    }
    entry.what = What::Selftest {
        name: name.to_owned(),
        args: test.args.clone(),
    };
    entry.timeout = Some(match test.timeout {
        0 => NO_TIMEOUT,
        seconds => Duration::from_secs(seconds.into()),
    });
    SuiteFile {
        tests: vec![entry],
        ..SuiteFile::new(name.to_owned(), Path::new("").into())
    }
}
