//! What is said about whole files and directories.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::plan::arch::Arch;
use harness::plan::config::{self, Configuration};
use harness::plan::settings::{Settings, Weight};
use harness::plan::suite_file::{TestEntry, What};
use tempfile::TempDir;

fn problems(configuration: &Configuration) -> String {
    configuration
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// What is said about one file of that name.
fn problems_of(path: &str, text: &str) -> String {
    problems(&config::read_embedded(&[(path, text)]))
}

/// What a test runs on four CPUs: a selftest's arguments one by one, in brackets.
fn line(test: &TestEntry) -> String {
    let values = &[("ncpus", "4")];
    let line = match &test.what {
        What::Selftest { name, args } => args.iter().fold(name.clone(), |line, arg| {
            format!("{line} [{}]", arg.clone().expand(values))
        }),
        What::Shell(line) => format!("sh: {}", line.clone().expand(values)),
        What::SelftestLine { selftest, rest } => format!("{selftest}: {rest}"),
    };
    let (row, column) = test.place.position;
    format!(
        "{}:{row}:{column} {} = {line}",
        test.place.path.display(),
        test.name
    )
}

/// Every test in `configuration`, which has nothing wrong.
fn lines(configuration: &Configuration) -> Vec<String> {
    assert_eq!(problems(configuration), "");
    let suites = configuration.suites.iter();
    suites
        .flat_map(|suite| {
            suite
                .tests
                .iter()
                .map(|test| format!("{}::{}", suite.name, line(test)))
        })
        .collect()
}

/// A directory with these files, and the problems found in it with the directory's own path taken out.
fn problems_below(files: &[(&str, &[u8])], given: &[&str]) -> String {
    let directory = directory_of(files);
    let paths: Vec<PathBuf> = given
        .iter()
        .map(|path| directory.path().join(path))
        .collect();
    problems(&config::read(&paths)).replace(&format!("{}/", directory.path().display()), "")
}

fn directory_of(files: &[(&str, &[u8])]) -> TempDir {
    let directory = TempDir::new().expect("make a temporary directory");
    for (path, bytes) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path)).expect("make a directory for a file");
        fs::write(path, bytes).expect("write a file");
    }
    directory
}

#[test]
fn a_suite_says_what_its_tests_run_and_how() {
    let text = r#"
timeout_s = 300
arch = ["x86_64", "arm64"]
setup = "modprobe x; echo {ncpus} ${HOME}"
requires = { cpus = 2, memory = "2G", hugepages = { "2M" = 64 } }
[[test]]
name = "plain"
selftest = "dirty_log_perf_test"
args = ["-v", "{ncpus}", "-g", ""]
precheck = "test -e /dev/kvm"
exclusive = true
[[test]]
name = "sweep"
command = "./dirty_log_perf_test -s {backing_src} -v {vcpus} ${HOME} {{vcpus}}"
setup = "echo {vcpus}"
matrix = { vcpus = [1, "{ncpus}"], backing_src = ["anonymous", "shmem"] }
timeout_s = 5
arch = "s390"
weight = "{ncpus}"
iterations = 3
requires = {}
"#;
    let configuration = config::read_embedded(&[("suites/dirty_log.toml", text)]);
    assert_eq!(
        lines(&configuration),
        [
            "dirty_log::suites/dirty_log.toml:8:12 plain = dirty_log_perf_test [-v] [4] [-g] []",
            "dirty_log::suites/dirty_log.toml:14:11 sweep::vcpus_1__backing_src_anonymous = \
             sh: ./dirty_log_perf_test -s anonymous -v 1 ${HOME} {vcpus}",
            "dirty_log::suites/dirty_log.toml:14:11 sweep::vcpus_1__backing_src_shmem = \
             sh: ./dirty_log_perf_test -s shmem -v 1 ${HOME} {vcpus}",
            "dirty_log::suites/dirty_log.toml:14:11 sweep::vcpus_ncpus__backing_src_anonymous = \
             sh: ./dirty_log_perf_test -s anonymous -v 4 ${HOME} {vcpus}",
            "dirty_log::suites/dirty_log.toml:14:11 sweep::vcpus_ncpus__backing_src_shmem = \
             sh: ./dirty_log_perf_test -s shmem -v 4 ${HOME} {vcpus}",
        ]
    );
    let suite = &configuration.suites[0];
    assert_eq!(
        suite.setup.clone().unwrap().expand(&[("ncpus", "4")]),
        "modprobe x; echo 4 ${HOME}"
    );
    let plain = &suite.tests[0].settings;
    assert_eq!(plain.timeout, Some(Duration::from_secs(300)));
    assert_eq!(plain.arch, Some(vec![Arch::X86_64, Arch::Aarch64]));
    assert_eq!(
        (plain.requires.cpus, plain.requires.memory),
        (Some(2), Some(2 << 30))
    );
    assert_eq!(plain.requires.hugepages, [(2 << 20, 64)].into());
    assert_eq!(
        (plain.exclusive, plain.weight, plain.iterations),
        (true, Weight::Slots(1), 1)
    );
    assert_eq!(
        *suite.tests[4].settings,
        Settings {
            timeout: Some(Duration::from_secs(5)),
            arch: Some(vec![Arch::S390x]),
            weight: Weight::Ncpus,
            iterations: 3,
            ..Settings::default()
        }
    );
    assert_eq!(
        suite.tests[3]
            .setup
            .clone()
            .unwrap()
            .expand(&[("ncpus", "4")]),
        "echo 4"
    );
}

#[test]
fn the_2024_proposal_is_read_as_it_is() {
    let text = r#"[
  {
    "suite": "perf-tests", "timeout_s": 300, "arch": "x86_64", "setup": "echo {ncpus}",
    "tests": [
      { "name": "2slot-5vcpu", "command": "./dirty_log_perf_test -v $(nproc) {x} \"${Y}\"" },
      { "name": "quick", "command": "./kvm_clock_test", "timeout_s": 5, "arch": "aarch64", "teardown": "true" }
    ]
  },
  { "suite": "sanity", "tests": [ { "name": "kvm_clock_test", "command": "./kvm_clock_test" } ] }
]"#;
    let configuration = config::read_embedded(&[("tests.json", text)]);
    assert_eq!(
        lines(&configuration),
        [
            "perf_tests::tests.json:5:43 _2slot_5vcpu = sh: ./dirty_log_perf_test -v $(nproc) {x} \"${Y}\"",
            "perf_tests::tests.json:6:37 quick = sh: ./kvm_clock_test",
            "sanity::tests.json:9:74 kvm_clock_test = sh: ./kvm_clock_test",
        ]
    );
    let suite = &configuration.suites[0];
    assert_eq!(
        suite.setup.clone().unwrap().expand(&[("ncpus", "4")]),
        "echo {ncpus}"
    );
    let tests: Vec<_> = suite
        .tests
        .iter()
        .map(|test| (test.settings.timeout, &test.settings.arch))
        .collect();
    let (long, short) = (Some(Duration::from_secs(300)), Some(Duration::from_secs(5)));
    assert_eq!(
        tests,
        [
            (long, &Some(vec![Arch::X86_64])),
            (short, &Some(vec![Arch::Aarch64]))
        ]
    );
    assert_eq!(
        suite
            .tests
            .iter()
            .map(|test| test.setup.is_some())
            .collect::<Vec<_>>(),
        [false, false]
    );
    assert_eq!(
        suite
            .tests
            .iter()
            .map(|test| test.teardown.is_some())
            .collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn everything_wrong_in_a_proposal_is_told_at_once() {
    let text = r#"[
  {
    "suit": "a", "timeout_s": "5", "arch": null,
    "tests": [
      { "name": "a-b", "command": "true" },
      { "name": "a_b", "command": "", "setup": 1, "setup": "true" },
      { "name": "c", "comand": "true", "\u0074eardown": "a\u0000b", "timeout_s": 1.5 },
      3
    ]
  },
  { "suite": "b", "tests": [] },
  { "suite": " ", "tests": {} }
]"#;
    assert_eq!(
        problems_of("tests.json", text),
        r#"tests.json:2:3: missing key `suite`
tests.json:3:5: unknown key `suit`; did you mean `suite`?
tests.json:3:31: `timeout_s` must be a whole number from 1 to 604800, not "5"
tests.json:3:44: `arch` must be a string, not null
tests.json:6:17: a second test named `a_b`; the first, "a-b", is in line 5
tests.json:6:35: `command` must be a string with something in it, not ""
tests.json:6:48: `setup` must be a string, not 1
tests.json:6:51: a second key "setup"; the first is in line 6
tests.json:7:7: missing key `command`
tests.json:7:22: unknown key `comand`; did you mean `command`?
tests.json:7:57: `teardown` must be a string without NUL, not "a\0b"
tests.json:7:82: `timeout_s` must be a whole number from 1 to 604800, not a number that is not whole or beyond 64 bits
tests.json:8:7: an element of `tests` must be a table, not 3
tests.json:11:28: a suite without a test
tests.json:12:14: `suite` must be a string with something in it, not " "
tests.json:12:28: `tests` must be an array of tests, not a table
"#
    );
    assert_eq!(
        problems_of("a.json", "{}"),
        "a.json:1:1: the file must be an array of suites, not a table\n"
    );
    assert_eq!(problems_of("a.json", "[]"), "a.json:1:1: no suite\n");
    assert_eq!(
        problems_of("a.json", "[\n{]"),
        "a.json:2:2: key must be a string\n"
    );
}

#[test]
fn upstream_test_files_are_read_as_they_are() {
    let configuration = config::read_embedded(&[
        ("t/kvm_clock_test/default.test", "kvm_clock_test\n"),
        (
            "t/dirty-log/2slot-5vcpu.test",
            "# SPDX\r\n\r\n  x86/dirty_log_test  -x 2 -v $(nproc) {ncpus}\r\n",
        ),
        ("t/dirty-log/b.test", "./dirty_log_test"),
    ]);
    assert_eq!(
        lines(&configuration),
        [
            "kvm_clock_test::t/kvm_clock_test/default.test:1:1 default = kvm_clock_test: ",
            "dirty_log::t/dirty-log/2slot-5vcpu.test:3:3 _2slot_5vcpu = dirty_log_test: -x 2 -v $(nproc) {ncpus}",
            "dirty_log::t/dirty-log/b.test:1:1 b = dirty_log_test: ",
        ]
    );
}

#[test]
fn everything_wrong_with_test_files_is_told_at_once() {
    let long = format!("t/{}.test", "x".repeat(201));
    let configuration = config::read_embedded(&[
        ("t/empty.test", ""),
        ("t/comment.test", "# nothing\n"),
        ("t/two.test", "a\n\n b\n"),
        ("t/nul.test", "a \0"),
        ("t/slash.test", "x86/ -v"),
        ("t/a-b.test", "a"),
        ("t/a_b.test", "a"),
        (&long, "a"),
        ("elsewhere/t/c.test", "a"),
    ]);
    assert_eq!(
        problems(&configuration).replace(&long, "LONG"),
        r#"t/empty.test:1:1: no line for the shell
t/comment.test:1:1: no line for the shell
t/two.test:3:2: a second line: a test is one line for the shell
t/nul.test:1:3: a NUL, which no command line can hold
t/slash.test:1:1: "x86/" names no selftest
t/a_b.test:1:1: a second test named `a_b`; the first is t/a-b.test
LONG:1:1: a name of 201 bytes; at most 200 are allowed
elsewhere/t: a second suite named `t`; the first is t
"#
    );
}

#[test]
fn the_text_around_a_syntax_error_is_still_read() {
    let text = r#"timeot_s = 1
timeout_s = 1
timeout_s = 2
[[test]]
name = unquoted
selftest = "a"
[[test]]
name = "b"
comand = "true"
[[test]]
name = "c
command = "true"
[[test]
name = "d"
"#;
    assert_eq!(
        problems_of("a.toml", text),
        "a.toml:1:1: unknown key `timeot_s`; did you mean `timeout_s`?
a.toml:3:1: duplicate key
a.toml:5:8: string values must be quoted, expected literal string
a.toml:9:1: unknown key `comand`; did you mean `command`?
a.toml:11:10: invalid basic string, expected `\"`
a.toml:13:8: unclosed array table, expected `]`
"
    );
}

#[test]
fn a_matrix_has_limits_and_every_axis_a_use() {
    let test = |rest: &str| format!("[[test]]\nname = \"a\"\n{rest}\n");
    let numbers: Vec<u32> = (0..1000).collect();
    let big = format!(
        "command = \"{{a}} {{b}} {{c}}\"\nmatrix = {{ a = {numbers:?}, b = {numbers:?}, c = {numbers:?} }}"
    );
    let long = format!(
        "command = \"{{a}}{}\"\nmatrix = {{ a = {numbers:?} }}",
        "x".repeat(300_000)
    );
    for (rest, problem) in [
        (
            big.as_str(),
            "1:1: its matrix has 1000000000 combinations: a file may make 100000 tests",
        ),
        (
            &long,
            "1:1: its matrix makes command lines of more than 268435456 bytes in all",
        ),
        (
            "command = \"true\"\nmatrix = { a = [1] }",
            "4:12: the axis `a` is never used: nothing contains `{a}`",
        ),
        (
            "command = \"true\"\nmatrix = {}",
            "4:10: a matrix without an axis",
        ),
        (
            "command = \"true\"\nmatrix = [1]",
            "4:10: `matrix` must be a table, not an array",
        ),
        (
            "command = \"{a}{b}\"\nmatrix = { a = [1, \"1__b_2\"], b = [2, \"2__b_2\"] }",
            "1:1: two of its matrix's combinations are named `a_1__b_2__b_2`",
        ),
    ] {
        assert_eq!(
            problems_of("a.toml", &test(rest)),
            format!("a.toml:{problem}\n")
        );
    }
}

#[test]
fn a_suite_that_is_none_is_a_problem() {
    for (path, text, problem) in [
        ("a.toml", "", "a.toml:1:1: missing key `test`"),
        ("a.toml", "test = []", "a.toml:1:8: a suite without a test"),
        (
            "a.toml",
            "[test]",
            "a.toml:1:1: `test` must be an array of tables, each `[[test]]`, not a table",
        ),
        (
            "a-b.toml",
            "test = [{ name = \"a\", command = \"b\" }]",
            "a-b.toml:1:1: the file's name is no identifier; rename it, or say `suite = \"a_b\"`",
        ),
        (
            "a.toml",
            "suite = \"..\"\ntest = [{ name = \"../a\", command = \"b\" }]",
            "a.toml:1:9: the name \"..\" is no identifier; `__` would be one\na.toml:2:18: the name \"../a\" is no identifier; `___a` would be one",
        ),
        (
            "a.txt",
            "",
            "a.txt: neither a .toml, a .json nor a .test file",
        ),
    ] {
        assert_eq!(problems_of(path, text), format!("{problem}\n"));
    }
}

#[test]
fn a_toml_file_is_an_environment_by_its_keys() {
    let environment = "description = \"x\"\nfeatures = { tdp = false }\n";
    let suite = "[[test]]\nname = \"a\"\ncommand = \"b\"\n";
    let configuration =
        config::read_embedded(&[("a.toml", environment), ("environments/b.toml", suite)]);
    assert_eq!(problems(&configuration), "");
    assert_eq!(configuration.environments[0].path, Path::new("a.toml"));
    assert_eq!(configuration.environments[0].text, environment);
    assert_eq!(configuration.suites[0].name, "b");
    let both = format!("features = {{}}\n{suite}");
    assert!(problems_of("c.toml", &both).starts_with("c.toml:1:1: unknown key `features`"));
}

#[test]
fn a_directory_is_searched_in_order_without_hidden_files_and_each_file_read_once() {
    let suite = b"[[test]]\nname = \"a\"\ncommand = \"b\"\n".as_slice();
    let directory = directory_of(&[
        ("b.toml", suite),
        ("a/z.toml", suite),
        ("a/c/d.test", b"x"),
        ("a/README.md", b"no"),
        (".hidden/e.toml", b"bad"),
        (".f.toml", b"bad"),
    ]);
    let root = directory.path();
    symlink(root, root.join("a/loop")).unwrap();
    symlink("..", root.join("a/c/up")).unwrap();
    let given = [
        root.to_owned(),
        root.join("a/../b.toml"),
        root.join("a"),
        root.to_owned(),
    ];
    let configuration = config::read(&given);
    assert_eq!(problems(&configuration), "");
    let names: Vec<&str> = configuration
        .suites
        .iter()
        .map(|suite| suite.name.as_str())
        .collect();
    assert_eq!(names, ["c", "z", "b"]);
}

#[test]
fn everything_wrong_with_files_and_directories_is_told_at_once() {
    let suite = b"[[test]]\nname = \"a\"\ncommand = \"b\"\n".as_slice();
    let files: &[(&str, &[u8])] = &[
        ("dir/a.toml", b"bad"),
        ("dir/b.toml", "test = \"\u{f6}\u{f6}".as_bytes()),
        ("dir/c.toml", b"# \xc3\xb6\n# \xc3\xb6\xff"),
        ("one/d.toml", suite),
        ("two/d.toml", suite),
        (
            "two/e.json",
            b"[\n { \"suite\": \"d\", \"tests\": [{\"name\": \"a\", \"command\": \"b\"}] } ]",
        ),
        ("empty/README.md", b""),
        ("x.txt", b""),
    ];
    assert_eq!(
        problems_below(
            files,
            &["dir", "missing.toml", "empty", "x.txt", "one", "two"]
        ),
        "dir/a.toml:1:4: key with no value, expected `=`
dir/b.toml:1:11: invalid basic string, expected `\"`
dir/c.toml:2:4: not UTF-8
missing.toml: No such file or directory (os error 2)
empty: no .toml, .json or .test file in this directory
x.txt: neither a .toml, a .json nor a .test file
two/d.toml: a second suite named `d`; the first is one/d.toml
two/e.json:2:13: a second suite named `d`; the first is one/d.toml
"
    );
}

#[test]
fn files_that_cannot_be_read_are_problems_and_never_waited_for() {
    let directory = directory_of(&[("t/a.test", b"a")]);
    let root = directory.path();
    symlink("nowhere", root.join("t/b.toml")).unwrap();
    symlink("c.toml", root.join("t/c.toml")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("t/d.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs::File::create(root.join("t/e.json"))
        .unwrap()
        .set_len((16 << 20) + 1)
        .unwrap();
    let not_utf8 = root.join(std::ffi::OsStr::from_bytes(b"t/f\xff.test"));
    fs::write(not_utf8, "f").unwrap();
    let configuration = config::read(&[root.to_owned()]);
    assert_eq!(
        problems(&configuration).replace(&format!("{}/", root.display()), ""),
        "t/b.toml: No such file or directory (os error 2)
t/c.toml: Too many levels of symbolic links (os error 40)
t/d.json: not a regular file
t/e.json: longer than 16777216 bytes
"
    );
    let names: Vec<&str> = configuration.suites[0]
        .tests
        .iter()
        .map(|test| test.name.as_str())
        .collect();
    assert_eq!(names, ["a", "f_"]);
}

#[test]
fn a_suite_read_here_and_there_is_a_problem_once() {
    let suite = "[[test]]\nname = \"a\"\ncommand = \"b\"\n";
    let mut configuration =
        config::read_embedded(&[("suites/a.toml", suite), ("suites/b.toml", suite)]);
    configuration.join(config::read_embedded(&[
        ("mine/a.toml", suite),
        ("mine/c.toml", suite),
    ]));
    assert_eq!(
        problems(&configuration),
        "mine/a.toml: a second suite named `a`; the first is suites/a.toml\n"
    );
    assert_eq!(configuration.suites.len(), 4);
}

#[test]
fn everything_wrong_in_a_suite_is_told_at_once() {
    let text = r#"suite = "dirty-log"
timeot_s = 5
timeout_s = 0
arch = ["x86_64", "x86-64", 3]
setup = ""
weight = "{cpus}"
iterations = 0
requires = { memory = "2 GB", cpus = 1.5, hugepages = { "3M" = 1, "2M" = 0, "1G" = 1, "1024M" = 1 }, disk = 1 }

[[test]]
name = "2slot"
selftest = "x86/cpuid_test"
args = ["-v", 4, "{ncpu}", "a\u0000b"]

[[test]]
name = "both"
selftest = "cpuid_test"
command = "awk '{print}'"
args = []

[[test]]
name = "neither"
exclusive = 1
timeout_s = 99999999

[[test]]
name = "both"
command = "true"

[[test]]
name = "sweep"
command = "echo {vcpus} {modes} ${HOME} {{print}}"
matrix = { vcpus = [], mode = ["a.b", "a-b", 1.5, "{vcpus}"], idle = [1], ncpus = [1] }

[[test]]
command = "true"

[[test]]
name = "huge"
command = "echo {a} {b}"
matrix.a = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
matrix.b = []
"#;
    assert_eq!(
        problems_of("suites/bad.toml", text),
        r#"suites/bad.toml:1:9: the name "dirty-log" is no identifier; `dirty_log` would be one
suites/bad.toml:2:1: unknown key `timeot_s`; did you mean `timeout_s`?
suites/bad.toml:3:13: `timeout_s` must be a whole number from 1 to 604800, not 0
suites/bad.toml:4:19: unknown architecture "x86-64"; did you mean `x86_64`?
suites/bad.toml:4:29: an element of `arch` must be a string, not 3
suites/bad.toml:5:9: `setup` must be a line for the shell, not ""
suites/bad.toml:6:10: `weight` must be a whole number or "{ncpus}", not "{cpus}"
suites/bad.toml:7:14: `iterations` must be a whole number from 1 to 1000000, not 0
suites/bad.toml:8:23: `memory` must be a size such as `2M` (K, M, G or T), not "2 GB"
suites/bad.toml:8:38: `cpus` must be a whole number from 1 to 1000000, not a floating-point number
suites/bad.toml:8:57: "3M" is no size of a hugepage, as "2M" and "1G" are
suites/bad.toml:8:74: `2M` must be a whole number from 1 to 4294967295, not 0
suites/bad.toml:8:87: hugepages of 1024M are required twice
suites/bad.toml:8:102: unknown key `disk`; known here: `cpus`, `memory`, `hugepages`
suites/bad.toml:11:8: the name "2slot" is no identifier; `_2slot` would be one
suites/bad.toml:12:12: `selftest` must be the name of an executable, without its directory or its arguments, not "x86/cpuid_test"
suites/bad.toml:13:15: an element of `args` must be a string, not 4
suites/bad.toml:13:18: no placeholder `{ncpu}`; did you mean `ncpus`? (for the text itself write `{{ncpu}}`)
suites/bad.toml:13:28: an element of `args` must be a string without NUL, not "a\0b"
suites/bad.toml:15:1: both `selftest` and `command`: a test has one of them
suites/bad.toml:18:11: no placeholder `{print}`; known here: `ncpus` (for the text itself write `{{print}}`)
suites/bad.toml:19:8: `args` go with `selftest`; those of a `command` are a part of its line
suites/bad.toml:21:1: neither `selftest` nor `command`: a test has one of them
suites/bad.toml:23:13: `exclusive` must be `true` or `false`, not 1
suites/bad.toml:24:13: `timeout_s` must be a whole number from 1 to 604800, not 99999999
suites/bad.toml:27:8: a second test named `both`; the first is in line 16
suites/bad.toml:32:11: no placeholder `{modes}`; did you mean `mode`? (for the text itself write `{{modes}}`)
suites/bad.toml:33:20: `vcpus` must be an array with at least one value, not an empty one
suites/bad.toml:33:39: a second value named `mode_a_b`; the first is in line 33
suites/bad.toml:33:46: an element of `mode` must be a string, a whole number, or a boolean, not a floating-point number
suites/bad.toml:33:51: no placeholder `{vcpus}`; did you mean `ncpus`? (for the text itself write `{{vcpus}}`)
suites/bad.toml:33:75: an axis cannot be called "ncpus"
suites/bad.toml:35:1: missing key `name`
suites/bad.toml:42:12: `b` must be an array with at least one value, not an empty one
"#
    );
}
