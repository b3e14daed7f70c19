//! 10,000 variants from files, listed: nextest starts the program once for each case.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Options;
use crate::measure::{self, Figures};
use crate::table;

const VARIANTS: usize = 10_000;

/// How often each is listed in a round: what takes so little time depends much on what else the machine does.
const LISTINGS: usize = 10;

/// Measures and prints it.
pub(crate) fn measure(options: &Options, scratch: &Path) {
    let directory = scratch.join("list");
    fs::create_dir_all(directory.join("selftests")).unwrap();
    fs::copy("/bin/true", directory.join("selftests/true_test")).unwrap();
    let numbers: Vec<usize> = (0..100).collect();
    assert_eq!(numbers.len() * numbers.len(), VARIANTS);
    let sweep = format!(
        "[[test]]\nname = \"sweep\"\nselftest = \"true_test\"\nargs = [\"-a\", \"{{a}}\", \"-b\", \"{{b}}\"]\n\
         matrix = {{ a = {numbers:?}, b = {numbers:?} }}\n"
    );
    let tests = (0..VARIANTS).fold(String::new(), |mut text, number| {
        writeln!(
            text,
            "[[test]]\nname = \"n{number}\"\nselftest = \"true_test\"\nargs = [\"-v\", \"{number}\"]"
        )
        .unwrap();
        text
    });
    let kinds = [
        ("matrix", sweep, "a matrix"),
        ("tests", tests, "10,000 `[[test]]`"),
    ];
    for (suite, toml, _) in &kinds {
        fs::write(directory.join(suite).with_extension("toml"), toml).unwrap();
    }
    let whole = "sweep::a_7__b_7";
    let one = [("matrix", whole), ("tests", "n7")];
    let mut asked = Vec::new();
    for ((suite, _, what), (_, name)) in kinds.iter().zip(one) {
        asked.push((
            format!("`--list` of {what}"),
            *suite,
            format!("{suite}::"),
            false,
        ));
        asked.push((
            format!("`--list --exact` of one of {what}"),
            *suite,
            format!("{suite}::{name}"),
            true,
        ));
    }
    let mut best: Vec<Option<Figures>> = vec![None; asked.len()];
    let listings = options.rounds * LISTINGS;
    for _ in 0..listings {
        for ((_, suite, filter, is_exact), best) in asked.iter().zip(&mut best) {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
            command.args([
                "run",
                "--list",
                "--format",
                "terse",
                "--selftests",
                "selftests",
            ]);
            command.args(["--config", &format!("{suite}.toml"), filter]);
            command.args(is_exact.then_some("--exact"));
            command
                .current_dir(&directory)
                .stdin(Stdio::null())
                .stderr(Stdio::null());
            let listed = directory.join("listed");
            command.stdout(fs::File::create(&listed).unwrap());
            let figures = measure::run(&mut command);
            let lines = fs::read_to_string(&listed).unwrap().lines().count();
            assert_eq!(
                (figures.code, lines),
                (0, if *is_exact { 1 } else { VARIANTS }),
                "{command:?}"
            );
            *best = Figures::better(*best, Some(figures));
        }
    }
    let rows = asked.iter().zip(best).map(|((what, ..), best)| {
        let best = best.unwrap();
        [
            what.clone(),
            format!("{:.1} ms", best.wall.as_secs_f64() * 1e3),
            table::megabytes(best.peak),
        ]
    });
    let title = format!("**{VARIANTS} variants from a file**, the best of {listings}:");
    table::print(
        &title,
        ["", "wall", "peak memory"],
        &rows.collect::<Vec<_>>(),
    );
}
