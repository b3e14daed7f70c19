//! Runs in parts, of several hosts, and of resumes, made one by the real program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::{ProptestConfig, any, prop, proptest};
use proptest::sample::Index;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Fixture, Ran, Record, Status, journals, lines_with};

/// Cases of every kind, which say their names.
fn fixture() -> Fixture {
    let case = |name: &str, command: &str| {
        format!("[[test]]\nname = \"{name}\"\ncommand = \"echo {name}; {command}\"\n")
    };
    let passing = (0..8).map(|number| case(&format!("pass_{number}"), "exit 0"));
    let others = [
        case("fail", "echo broken >&2; exit 1"),
        case("skip", "exit 4"),
        case("hang", "exec sleep 1000"),
    ];
    let tests: String = passing.chain(others).collect();
    let suite = format!("setup = \"echo set up\"\ntimeout_s = 1\n{tests}");
    Fixture::new()
        .selftest("a_test", "echo a")
        .file("suite.toml", &suite)
}

/// A run of these with the results in `output`.
fn ran(fixture: &Fixture, output: &str, arguments: &[&str]) -> Ran {
    let given = [
        "--selftests",
        "selftests",
        "--config",
        "suite.toml",
        "--output",
        output,
    ];
    let mut command = fixture.command(&given);
    Ran::of(command.args(arguments).output().unwrap())
}

fn merge(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let mut command = fixture.program(&["merge"]);
    Ran::of(command.args(arguments).output().unwrap())
}

fn record(fixture: &Fixture, directory: &str) -> Record {
    Record::read(&fixture.path().join(directory)).unwrap()
}

/// What is to be alike in a run in one piece and in the merge of its parts: all but times and numbers of processes.
fn told(
    fixture: &Fixture,
    directory: &str,
) -> BTreeMap<String, (Status, Option<String>, Option<String>)> {
    let record = record(fixture, directory);
    let told = record.outcomes.into_iter().map(|one| {
        let place = one.output.as_ref();
        let file = place.map(|place| {
            fixture
                .path()
                .join(directory)
                .join(place)
                .join("command.stdout")
        });
        let printed = file.map(|file| fs::read_to_string(file).unwrap());
        (one.name, (one.status, one.reason, printed))
    });
    told.collect()
}

/// Makes a run one of another host.
fn put_on(run: &Path, host: &str, vendor: &str) {
    for path in journals(run) {
        let text = fs::read_to_string(&path).unwrap();
        let mut first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let id = first["part_started"]["part"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let text = text.replace(&id, &format!("{id}-{host}"));
        let (line, rest) = text.split_once('\n').unwrap();
        first = serde_json::from_str(line).unwrap();
        first["part_started"]["part"]["host"]["hostname"] = host.into();
        first["part_started"]["part"]["host"]["cpu_vendor"] = vendor.into();
        fs::write(
            path.with_file_name(format!("{id}-{host}.jsonl")),
            format!("{first}\n{rest}"),
        )
        .unwrap();
        fs::remove_file(path).unwrap();
    }
    fs::remove_file(run.join("run.json")).ok();
}

#[test]
fn what_a_place_has_printed_is_there_after_a_merge() {
    let fixture = fixture();
    let placed = ran(
        &fixture,
        "placed",
        &["--place", "near=echo hello; sh -c {}"],
    );
    assert_eq!(placed.code, Some(101), "{}", placed.stderr);
    ran(&fixture, "here", &[]);
    let merged = merge(&fixture, &["out", "placed", "here"]);
    let console = fs::read_to_string(fixture.path().join("out/places/near.console.log"));
    assert_eq!(console.unwrap(), "hello\n", "{}", merged.stderr);
}

#[test]
fn four_shards_merged_are_the_run_in_one_piece() {
    let fixture = fixture();
    assert_eq!(ran(&fixture, "whole", &[]).code, Some(101));
    let parts = ["part1", "part2", "part3", "part4"];
    for (part, shard) in parts.iter().zip(["1/4", "2/4", "3/4", "4/4"]) {
        ran(&fixture, part, &["--shard", shard]);
    }
    let merged = merge(&fixture, &[&["out"], &parts[..]].concat());
    assert_eq!(merged.code, Some(101), "{}", merged.stderr);
    assert_eq!(merged.stderr, "");
    let counts = "9 PASSED, 1 SKIPPED, 1 FAILED, 1 TIMED_OUT of 12 cases\n";
    assert!(merged.stdout.starts_with(counts), "{}", merged.stdout);
    let whole = told(&fixture, "whole");
    assert_eq!(told(&fixture, "out"), whole);
    let record = record(&fixture, "out");
    assert!(record.finished && record.selected == whole.len());
    for file in [
        "run.json",
        "junit.xml",
        "results.ktap",
        "report.html",
        "suite/suite_setup.stdout",
    ] {
        assert!(fixture.path().join("out").join(file).is_file(), "{file}");
    }
    // One host: nothing of it in names and places.
    let text = fs::read_to_string(fixture.path().join("out/run.json")).unwrap();
    assert!(!text.contains("\"label\"") && !text.contains("\"host\":\""));

    // A part that is not there owes its cases.
    let merged = merge(&fixture, &["less", "part1", "part2", "part4"]);
    assert_eq!(merged.code, Some(101));
    // Nothing is known of how to run them.
    let junit = fs::read_to_string(fixture.path().join("less/junit.xml")).unwrap();
    for text in [&merged.stdout, &junit] {
        assert!(
            text.contains("the plan has it, and no part brought it"),
            "{text}"
        );
        assert!(
            !text
                .lines()
                .any(|line| line.trim_end().ends_with("reproduce:")),
            "{text}"
        );
    }
    let missing = record_of_shard(&fixture, "part3");
    let not_run = Record::read(&fixture.path().join("less")).unwrap();
    let not_run = not_run.of_status(Status::NoRun).map(|one| {
        assert_eq!(
            one.reason.as_deref(),
            Some("the plan has it, and no part brought it")
        );
        one.name.clone()
    });
    assert_eq!(not_run.collect::<BTreeSet<_>>(), missing);
    // It comes later, to what was merged before.
    merge(&fixture, &["later", "part3", "less"]);
    assert_eq!(told(&fixture, "later"), whole);
}

#[test]
fn what_one_host_has_brought_of_a_plan_no_other_one_owes() {
    let fixture = fixture();
    for (run, shard) in [("one", "1/3"), ("two", "2/3"), ("three", "3/3")] {
        ran(&fixture, run, &["--shard", shard, "pass_", "a_test"]);
        put_on(&fixture.path().join(run), run, "AuthenticAMD");
    }
    let merged = merge(&fixture, &["out", "one", "two", "three"]);
    assert_eq!(merged.code, Some(0), "{}", merged.stdout);
    let record = record(&fixture, "out");
    assert_eq!(record.of_status(Status::Passed).count(), 9);
    assert_eq!(record.selected, 9);
    assert_eq!(merge(&fixture, &["less", "one", "two"]).code, Some(101));
}

fn record_of_shard(fixture: &Fixture, part: &str) -> BTreeSet<String> {
    let outcomes = record(fixture, part).outcomes.into_iter();
    let names: BTreeSet<_> = outcomes.map(|one| one.name).collect();
    assert!(!names.is_empty());
    names
}

#[test]
fn a_host_of_several_has_its_name_before_its_cases_and_its_outputs_below_it() {
    let fixture = fixture();
    for (run, host, vendor) in [
        ("a", "amd1.lab", "AuthenticAMD"),
        ("i", "intel1", "GenuineIntel"),
    ] {
        ran(&fixture, run, &["a_test", "fail", "--retry-failed", "1"]);
        put_on(&fixture.path().join(run), host, vendor);
    }
    let merged = merge(&fixture, &["out", "a", "i"]);
    assert_eq!(merged.code, Some(101));
    let failure = "suite::fail  amd1.lab, intel1 ✗: failed 2 of 2: exit code 1";
    assert_eq!(
        lines_with(&merged.stdout, failure).len(),
        1,
        "{}",
        merged.stdout
    );
    let names: BTreeSet<_> = told(&fixture, "out").into_keys().collect();
    let expected = [
        "amd1.lab::a_test::default",
        "amd1.lab::suite::fail",
        "intel1::a_test::default",
        "intel1::suite::fail",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    let read = |file: &str| fs::read_to_string(fixture.path().join("out").join(file)).unwrap();
    for place in ["intel1/suite/fail", "intel1/suite/fail/retry_1"] {
        assert_eq!(read(&format!("{place}/command.stderr")), "broken\n");
    }
    let junit = read("junit.xml");
    for part in [
        r#"<testsuite name="kvm.amd1_lab" tests="2""#,
        r#"hostname="amd1.lab""#,
        r#"<testcase name="fail" classname="kvm.intel1.suite""#,
    ] {
        assert_eq!(junit.matches(part).count(), 1, "{part}\n{junit}");
    }
    assert_eq!(junit.matches(r#"<property name="host.name""#).count(), 2);
    let ktap = read("results.ktap");
    assert!(ktap.contains("# intel1: host.name: intel1\n"), "{ktap}");
    assert!(ktap.contains("\nnot ok 2 amd1.lab::suite\n"), "{ktap}");
    let html = read("report.html");
    assert!(html.contains("<h1>KVM selftests on 2 hosts, "));
    assert!(html.contains("<span>amd1.lab</span></th><th scope=\"col\"><span>intel1</span>"));

    // Whatever reads a run reads this one.
    let before = read("run.json");
    fs::remove_file(fixture.path().join("out/run.json")).unwrap();
    let report = Ran::of(fixture.program(&["report", "out"]).output().unwrap());
    assert_eq!((report.code, read("run.json")), (Some(0), before));
    let resume = Ran::of(fixture.command(&["--resume", "out"]).output().unwrap());
    assert_eq!(resume.code, Some(2));
    assert_eq!(
        lines_with(&resume.stderr, "was merged of several runs").len(),
        1
    );
    let again = merge(&fixture, &["out", "a"]);
    assert_eq!(again.code, Some(2));
    assert_eq!(
        lines_with(&again.stderr, "out exists already").len(),
        1,
        "{}",
        again.stderr
    );
}

#[test]
fn a_comparison_holds_intel_against_intel() {
    let fixture = fixture();
    let hosts = [
        ("a1", "AuthenticAMD"),
        ("i1", "GenuineIntel"),
        ("a2", "AuthenticAMD"),
        ("i2", "GenuineIntel"),
    ];
    for (host, vendor) in hosts {
        let suite = if host == "i2" { "exit 1" } else { "exit 0" };
        let suite = format!("[[test]]\nname = \"case\"\ncommand = \"{suite}\"\n");
        fs::write(fixture.path().join("suite.toml"), suite).unwrap();
        ran(&fixture, host, &["case"]);
        put_on(&fixture.path().join(host), host, vendor);
    }
    merge(&fixture, &["old", "a1", "i1"]);
    merge(&fixture, &["new", "a2", "i2"]);
    let compare = |old: &str, new: &str| {
        let arguments = ["compare", old, new, "--format", "json"];
        let ran = Ran::of(fixture.program(&arguments).output().unwrap());
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        let changes = json["changes"].as_array().unwrap().clone();
        let of = |name: &str| {
            changes
                .iter()
                .map(|change| change[name].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        (ran.code, of("name"), of("kind"))
    };
    let failure = (
        Some(1),
        vec!["GenuineIntel::suite::case".to_owned()],
        vec!["new_failure".to_owned()],
    );
    assert_eq!(compare("old", "new"), failure);
    // What ran on one host is held against the host of its vendor.
    let (code, names, kinds) = compare("i1", "new");
    assert_eq!(code, Some(1));
    let place = names.iter().position(|name| *name == failure.1[0]);
    assert_eq!(kinds[place.unwrap()], "new_failure");
    assert_eq!(compare("old", "old").0, Some(0));
}

#[test]
fn what_ran_again_elsewhere_is_there_once_and_what_ran_twice_is_there_twice() {
    let fixture = fixture();
    ran(&fixture, "run", &["pass_"]);
    let run = fixture.path().join("run");
    cut_off_after(&journals(&run)[0], 3);
    let resumed = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    // The second part is another host's, which died, too.
    let second = journals(&run).pop().unwrap();
    let text = fs::read_to_string(&second).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    let mut first: Value = serde_json::from_str(line).unwrap();
    first["part_started"]["part"]["host"]["hostname"] = "other".into();
    let moved = second.with_file_name("00002-other.jsonl");
    fs::write(&moved, format!("{first}\n{rest}")).unwrap();
    fs::remove_file(second).unwrap();
    cut_off_after(&moved, 1);
    let resumed = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert_eq!(record(&fixture, "run").parts.len(), 3);

    ran(&fixture, "failed", &["fail"]);
    put_on(&fixture.path().join("failed"), "third", "AuthenticAMD");
    for (out, runs, cases, hosts) in [
        ("out", &["run"][..], 8, 1),
        ("all", &["run", "failed"], 9, 3),
    ] {
        merge(&fixture, &[&[out], runs].concat());
        // With what each has printed.
        assert_eq!(told(&fixture, out).len(), cases);
        let merged = record(&fixture, out);
        assert_eq!(merged.of_status(Status::Passed).count(), 8);
        let of = merged.outcomes.iter();
        let of: BTreeSet<_> = of
            .map(|one| one.rest.get("host").map(Value::to_string))
            .collect();
        assert_eq!(of.len(), hosts);
    }

    // The same cases in another run on the same host: none takes the place of the other.
    ran(&fixture, "once", &["pass_1"]);
    ran(&fixture, "twice", &["pass_1"]);
    assert_eq!(
        merge(&fixture, &["both", "twice", "once", "twice"]).code,
        Some(0)
    );
    let both = record(&fixture, "both");
    let hosts: Vec<_> = both
        .outcomes
        .iter()
        .map(|one| one.rest["host"].as_str().unwrap())
        .collect();
    assert_eq!(hosts.len(), 2);
    assert_eq!(format!("{}-2", hosts[0]), hosts[1]);
}

/// Leaves of a journal what was there when so many cases had ended, as where the host died then.
fn cut_off_after(journal: &Path, mut ended: usize) {
    let text = fs::read_to_string(journal).unwrap();
    let lines = text.split_inclusive('\n').take_while(|line| {
        let is_left = ended > 0;
        ended = ended.saturating_sub(usize::from(line.starts_with("{\"finished\"")));
        is_left
    });
    let left: String = lines.collect();
    fs::write(journal, left).unwrap();
    let run = journal.parent().unwrap().parent().unwrap();
    fs::remove_file(run.join("run.json")).unwrap();
}

/// Changes the first line of a run's only journal.
fn edit(run: &Path, change: impl FnOnce(&mut Value)) {
    let path = &journals(run)[0];
    let text = fs::read_to_string(path).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    let mut first: Value = serde_json::from_str(line).unwrap();
    change(&mut first["part_started"]["part"]);
    fs::write(path, format!("{first}\n{rest}")).unwrap();
}

#[test]
fn runs_of_unlike_kernels_or_selftests_are_merged_only_where_that_is_meant() {
    for (change, expected) in [
        (json!({"host": {"kernel": "6.99.0"}}), "kernels: "),
        (json!({"selftests_commit": "another"}), "selftests for "),
    ] {
        let fixture = fixture();
        for run in ["one", "other"] {
            ran(&fixture, run, &["a_test"]);
        }
        edit(&fixture.path().join("other"), |part| {
            for (name, value) in change.as_object().unwrap() {
                match value.as_object() {
                    Some(inner) => inner
                        .iter()
                        .for_each(|(inner, value)| part[name][inner] = value.clone()),
                    None => part[name] = value.clone(),
                }
            }
        });
        let refused = merge(&fixture, &["out", "one", "other"]);
        assert_eq!(refused.code, Some(2));
        assert_eq!(
            lines_with(&refused.stderr, expected).len(),
            1,
            "{}",
            refused.stderr
        );
        assert!(!fixture.path().join("out").exists());
        assert_eq!(
            merge(&fixture, &["out", "one", "other", "--mixed"]).code,
            Some(0)
        );
    }
}

#[test]
fn what_is_no_run_newer_or_damaged_is_named_and_the_others_are_merged() {
    let fixture = fixture().file("none/file", "");
    for run in ["good", "newer", "damaged", "lost"] {
        ran(&fixture, run, &["a_test", "--shard", "1/1"]);
    }
    let at = |run: &str| fixture.path().join(run);
    edit(&at("newer"), |part| part["schema_version"] = 99.into());
    fs::write(&journals(&at("damaged"))[0], "\0\0\0{").unwrap();
    edit(&at("lost"), |part| part["plan"] = "gone".into());
    let merged = merge(
        &fixture,
        &["out", "none", "good", "newer", "damaged", "lost", "nowhere"],
    );
    assert_eq!(merged.code, Some(101), "{}", merged.stderr);
    for (run, expected) in [
        ("none", "left out: none: "),
        ("nowhere", "left out: nowhere: "),
        ("newer", "it has schema version 99"),
        (
            "damaged",
            "line 1, which says what it was to run, is damaged",
        ),
        ("lost", "its plan is lost"),
    ] {
        let lines = lines_with(&merged.stderr, expected);
        assert!(
            lines.len() == 1 && lines[0].contains(run),
            "{run}: {}",
            merged.stderr
        );
    }
    assert_eq!(merged.stderr.lines().count(), 5);
    assert_eq!(record(&fixture, "out").of_status(Status::Passed).count(), 2);
    let none = merge(&fixture, &["empty", "none"]);
    assert_eq!(
        (none.code, at("empty").exists()),
        (Some(2), false),
        "{}",
        none.stderr
    );
}

#[test]
fn no_link_that_a_case_left_is_followed() {
    let fixture = fixture().file("secret/file", "secret");
    ran(&fixture, "run", &["a_test", "pass_1"]);
    let run = fixture.path().join("run");
    symlink(
        fixture.path().join("secret/file"),
        run.join("a_test/default/link"),
    )
    .unwrap();
    fs::rename(run.join("suite/pass_1"), run.join("elsewhere")).unwrap();
    symlink(fixture.path().join("secret"), run.join("suite/pass_1")).unwrap();
    let merged = merge(&fixture, &["out", "run"]);
    assert_eq!(merged.code, Some(101));
    let told = "suite/pass_1: a symbolic link has been put in its place";
    let lines = lines_with(&merged.stderr, told);
    assert_eq!(lines.len(), 1, "{}", merged.stderr);
    for place in ["a_test/default/link", "suite/pass_1/file"] {
        assert!(
            fixture
                .path()
                .join("out")
                .join(place)
                .symlink_metadata()
                .is_err()
        );
    }
    assert!(
        fixture
            .path()
            .join("out/a_test/default/command.stdout")
            .is_file()
    );
}

/// Parts that add up to ten cases, each with all lines that it wrote.
fn part(number: usize, cases: &[usize], host: usize) -> String {
    let name = |case: &usize| format!("s::c{case}");
    let names: Vec<_> = cases
        .iter()
        .map(|case| json!({"suite": "s", "variant": format!("c{case}")}))
        .collect();
    let made = crate::support::made::run(&[]);
    let mut part = made["parts"][0]["part"].clone();
    let id = format!("{number:05}-h{host}");
    part["id"] = json!(id);
    part["run"] = json!(id);
    part["host"]["hostname"] = json!(format!("h{host}"));
    let mut end = made["parts"][0]["end"].clone();
    end["part"] = json!(id);
    let mut lines = vec![json!({"part_started": {"part": part, "cases": names}})];
    for case in cases {
        let status = ["PASSED", "FAILED", "SKIPPED"][case % 3];
        let outcome = crate::support::made::outcome(&name(case), status, "");
        lines.push(json!({"starting": {"cases": [name(case)]}}));
        lines.push(json!({"finished": outcome}));
    }
    lines.push(json!({"part_ended": end}));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The directory of a run with this journal.
fn keep(directory: &Path, journal: &str, length: usize) {
    let first: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    let id = first["part_started"]["part"]["id"].as_str().unwrap();
    fs::create_dir_all(directory.join("journal")).unwrap();
    fs::write(
        directory.join("journal").join(format!("{id}.jsonl")),
        &journal[..length],
    )
    .unwrap();
}

/// Where a journal is cut: never in its first line, without which it is none.
fn cut(journal: &str, at: Index) -> usize {
    let first = journal.find('\n').unwrap() + 1;
    first + at.index(journal.len() - first + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    /// Whatever the split, the order, the copies and what is cut off: each case of each host has the outcome that a part
    /// tells of, or is `NO_RUN`; and in whatever order and by how many steps, the result is the same.
    #[test]
    fn merging_is_a_union(
        split in prop::collection::vec((0_usize..4, 0_usize..2), 10),
        copies in prop::collection::vec((any::<Index>(), any::<Index>(), any::<bool>()), 1..10),
    ) {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut of_part: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (case, part_and_host) in split.iter().enumerate() {
            of_part.entry(*part_and_host).or_default().push(case);
        }
        let journals: Vec<_> = of_part.iter().map(|((number, host), cases)| part(*number, cases, *host)).collect();
        let mut longest: BTreeMap<usize, usize> = BTreeMap::new();
        let mut runs = Vec::new();
        for (number, (which, end, is_whole)) in copies.iter().enumerate() {
            let which = which.index(journals.len());
            let journal = &journals[which];
            let length = if *is_whole { journal.len() } else { cut(journal, *end) };
            keep(&at(&format!("run{number}")), journal, length);
            let known = longest.entry(which).or_default();
            *known = length.max(*known);
            runs.push(format!("run{number}"));
        }
        let merge = |out: &str, runs: &[String]| {
            let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
            let ran = program.arg("merge").arg(out).args(runs).current_dir(directory.path()).output().unwrap();
            assert!(matches!(ran.status.code(), Some(0 | 101)), "{ran:?}");
            fs::read_to_string(at(out).join("run.json")).unwrap()
        };
        let once = merge("once", &runs);

        let record: Record = serde_json::from_str(&once).unwrap();
        let mut expected = BTreeMap::new();
        for (which, length) in longest {
            let told = &journals[which][..length];
            for line in told.split_inclusive('\n').filter(|line| line.ends_with('\n') || serde_json::from_str::<Value>(line).is_ok()) {
                let line: Value = serde_json::from_str(line).unwrap();
                if let Some(cases) = line["part_started"]["cases"].as_array() {
                    let names = cases.iter().map(|case| case["variant"].as_str().unwrap().to_owned());
                    expected.extend(names.map(|name| (name, "NO_RUN".to_owned())));
                }
                if let Some(name) = line["finished"]["variant"].as_str() {
                    expected.insert(name.to_owned(), line["finished"]["status"].as_str().unwrap().to_owned());
                }
            }
        }
        let word = |status: Status| match status {
            Status::Passed => "PASSED",
            Status::Skipped => "SKIPPED",
            Status::Failed => "FAILED",
            Status::TimedOut => "TIMED_OUT",
            Status::NoRun => "NO_RUN",
        };
        let told: BTreeMap<_, _> = record.outcomes.iter().map(|one| (one.variant.clone(), word(one.status).to_owned())).collect();
        assert_eq!(told, expected);
        assert_eq!(record.outcomes.len(), expected.len());

        let mut others = runs.clone();
        others.reverse();
        others.extend(runs.iter().take(2).cloned());
        assert_eq!(merge("reversed", &others), once);
        let (some, rest) = runs.split_at(runs.len() / 2);
        let mut steps = Vec::new();
        for (out, runs) in [("some", some), ("rest", rest)] {
            if !runs.is_empty() {
                merge(out, runs);
                steps.push(out.to_owned());
            }
        }
        assert_eq!(merge("steps", &steps), once);
        assert_eq!(merge("again", &["steps".to_owned(), "once".to_owned()]), once);
    }
}

/// 100 hosts with 1,000 cases each, each with two outputs: `cargo test --release -p harness --test it -- --ignored merge::`.
#[test]
#[ignore = "it takes a minute, and the five seconds are those of a release build"]
fn a_hundred_hosts_are_merged_in_five_seconds_and_200_mb() {
    // Results in memory, so that it is the program that is measured.
    let directory = TempDir::new_in("/dev/shm").unwrap();
    let cases: Vec<usize> = (0..1000).collect();
    let runs: Vec<PathBuf> = (0..100)
        .map(|host| directory.path().join(format!("run{host}")))
        .collect();
    for (host, run) in runs.iter().enumerate() {
        let journal = part(1, &cases, host);
        keep(run, &journal, journal.len());
        for case in &cases {
            let place = run.join(format!("s/c{case}"));
            fs::create_dir_all(&place).unwrap();
            for file in ["command.stdout", "command.stderr"] {
                fs::write(place.join(file), "a line of a selftest\n").unwrap();
            }
        }
    }
    let begin = std::time::Instant::now();
    // RLIMIT_DATA in KiB: all memory that is not a file's.
    let limited = "ulimit -d 204800 && exec \"$@\"";
    let mut program = std::process::Command::new("sh");
    program.args([
        "-c",
        limited,
        "sh",
        env!("CARGO_BIN_EXE_kvm-tests-runner"),
        "merge",
    ]);
    program.arg(directory.path().join("out")).args(&runs);
    let ran = Ran::of(program.output().unwrap());
    let took = begin.elapsed();
    println!("100,000 cases merged in {took:?}");
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(
        ran.stdout
            .starts_with("33400 PASSED, 33300 SKIPPED, 33300 FAILED of 100000 cases")
    );
    assert!(
        cfg!(debug_assertions) || took.as_secs_f64() < 5.0,
        "{took:?}"
    );
}
