//! What is wrong with the configuration: told at once, with its place, before anything runs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::support::{Fixture, Ran};

const SUITE: &str = "[[test]]\nname = \"a\"\ncommand = \"b\"\n";

/// A directory with these files.
fn files(files: &[(&str, &str)]) -> Fixture {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let put = |fixture: Fixture, (path, text): &(&str, &str)| fixture.file(path, text);
    files.iter().fold(fixture, put)
}

/// The program lists what there is with these configurations.
fn list(fixture: &Fixture, given: &[&str]) -> Ran {
    let mut command = fixture.command(&["--list", "--selftests", "selftests"]);
    given.iter().for_each(|path| {
        command.args(["--config", path]);
    });
    Ran::of(command.output().unwrap())
}

/// What is said about these configurations, none of which is read.
fn problems(fixture: &Fixture, given: &[&str]) -> String {
    let ran = list(fixture, given);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(2), ""),
        "{}",
        ran.stderr
    );
    let lines = ran.stderr.lines();
    lines
        .map(|line| format!("{}\n", line.strip_prefix("error: ").unwrap()))
        .collect()
}

/// What is said about one file.
fn problems_of(path: &str, text: &str) -> String {
    problems(&files(&[(path, text)]), &[path])
}

#[test]
fn the_first_mistake_of_every_table_is_told_at_once() {
    let text = r#"suite = "dirty-log"
timeout_s = 0

[[test]]
name = "2slot"
timeot_s = 5

[[test]]
name = "a"
selftest = "x86/cpuid_test"

[[test]]
name = "b"
selftest = "cpuid_test"
args = ["-v", 4]

[[test]]
name = "c"
selftest = "cpuid_test"
args = ["-v", "{ncpu}"]

[[test]]
name = "d"
selftest = "cpuid_test"
command = "awk '{print}'"

[[test]]
name = "both"
command = "awk '{print}'"

[[test]]
name = "e"
command = "true"
args = []

[[test]]
name = "neither"
exclusive = true

[[test]]
name = "a1"
arch = ["x86_64", "x86-64"]

[[test]]
name = "weight"
weight = "{cpus}"

[[test]]
name = "iterations"
iterations = 1000001

[[test]]
name = "long"
timeout_s = 99999999

[[test]]
name = "memory"
requires = { memory = "2 GB" }

[[test]]
name = "pages"
requires = { hugepages = { "3M" = 1 } }

[[test]]
name = "twice"
requires = { hugepages = { "1G" = 1, "1024M" = 1 } }

[[test]]
name = "disk"
requires = { disk = 1 }

[[test]]
name = "blank"
setup = " "

[[test]]
name = "nul"
command = "a\u0000b"

[[test]]
name = "unsaid"
kernel_log_ignore = ["*"]

[[test]]
name = "variable"
env = { "A=B" = "c" }

[[test]]
name = "tag"
tags = ["not-one"]

[[test]]
command = "true"

[[test]]
name = "fine"
command = "true"

[[test]]
name = "fine"
command = "true"

[[test]]
suite = "x"
name = "suite"
command = "true"

[default.a_test]
comand = "x"

[default.b_test]
command = "x"
"#;
    assert_eq!(
        problems_of("suites/bad.toml", text),
        r#"suites/bad.toml:1:9: the name "dirty-log" is no identifier; `dirty_log` would be one
suites/bad.toml:5:8: the name "2slot" is no identifier; `_2slot` would be one
suites/bad.toml:10:12: invalid value: string "x86/cpuid_test", expected the name of an executable, without its directory or its arguments
suites/bad.toml:15:8: invalid value: integer `4`, expected a string
suites/bad.toml:20:15: no placeholder `{ncpu}`; did you mean `ncpus`? (for the text itself write `{{ncpu}}`)
suites/bad.toml:22:1: both `selftest` and `command`: a test has one of them
suites/bad.toml:29:11: no placeholder `{print}`; known here: `ncpus` (for the text itself write `{{print}}`)
suites/bad.toml:34:8: `args` go with `selftest`; those of a `command` are a part of its line
suites/bad.toml:36:1: neither `selftest` nor `command`: a test has one of them
suites/bad.toml:42:8: unknown word `x86-64`; did you mean `x86_64`?
suites/bad.toml:46:10: invalid value: string "{cpus}", expected a whole number from 1 to 1000000, or "{ncpus}"
suites/bad.toml:50:14: invalid value: integer `1000001`, expected a whole number from 1 to 1000000
suites/bad.toml:54:13: invalid value: integer `99999999`, expected a whole number from 1 to 604800
suites/bad.toml:58:23: invalid value: string "2 GB", expected a size such as `2M` (K, M, G or T)
suites/bad.toml:62:28: "3M" is no size of a hugepage, as "2M" and "1G" are
suites/bad.toml:66:26: hugepages of one size are required twice
suites/bad.toml:70:14: unknown key `disk`; known here: `cpus`, `memory`, `hugepages`
suites/bad.toml:74:9: invalid value: string " ", expected a line for the shell
suites/bad.toml:78:11: invalid value: string "a\0b", expected a string without NUL
suites/bad.toml:82:21: invalid value: string "*", expected a part of a line that says something
suites/bad.toml:86:9: invalid value: string "A=B", expected the name of a variable
suites/bad.toml:90:8: the name "not-one" is no identifier; `not_one` would be one
suites/bad.toml:92:1: missing key `name`
suites/bad.toml:100:8: a second test named `fine`; the first is in line 96
suites/bad.toml:104:9: `suite` belongs at the file's top
suites/bad.toml:109:1: unknown key `comand`; did you mean `command`?
suites/bad.toml:112:11: `command` belongs in a `[[test]]`
"#
    );
}

#[test]
fn the_first_mistake_of_every_suite_and_test_of_a_proposal_is_told_at_once() {
    let text = r#"[
  { "suit": "a", "tests": [] },
  { "suite": "a", "timeout_s": "5", "tests": [] },
  {
    "suite": "b",
    "tests": [
      { "name": "a-b", "command": "true" },
      { "name": "a_b", "command": "true" },
      { "name": "c", "comand": "true" },
      { "name": "d", "command": "" },
      { "name": "e", "command": "true", "setup": "x", "setup": "y" },
      { "name": "f", "command": "true", "timeout_s": 1.5 },
      { "name": "g", "command": "a\u0000b" },
      { "name": "h", "command": "true", "arch": "x86-64" },
      3
    ]
  },
  { "suite": "c", "tests": [] },
  { "suite": " ", "tests": [] },
  { "suite": "b", "tests": [{ "name": "a", "command": "b" }] }
]"#;
    assert_eq!(
        problems_of("tests.json", text),
        r#"tests.json:2:10: unknown key `suit`; did you mean `suite`?
tests.json:3:34: invalid value: string "5", expected a whole number from 1 to 604800
tests.json:8:7: a second test named `a_b`; the first, "a-b", is in line 7
tests.json:9:29: unknown key `comand`; did you mean `command`?
tests.json:10:36: invalid value: string "", expected a line for the shell
tests.json:11:61: duplicate key `setup`
tests.json:12:56: invalid type: floating point `1.5`, expected a string, a whole number or a boolean
tests.json:13:42: invalid value: string "a\0b", expected a string without NUL
tests.json:14:56: unknown word `x86-64`; did you mean `x86_64`?
tests.json:15:7: invalid type: integer `3`, expected a table
tests.json:18:3: a suite without a test
tests.json:19:16: a name with nothing in it
tests.json:20:3: a second suite named `b`; the first is tests.json:4:3
"#
    );
    for (text, problem) in [
        ("{}", "a.json:1:1: invalid type: map, expected a sequence\n"),
        ("[]", "a.json:1:1: no suite\n"),
        ("[\n{]", "a.json:2:2: key must be a string\n"),
    ] {
        assert_eq!(problems_of("a.json", text), problem);
    }
}

#[test]
fn everything_wrong_with_test_files_is_told_at_once() {
    let long = format!("t/{}.test", "x".repeat(201));
    let fixture = files(&[
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
        problems(&fixture, &["t", "elsewhere"]).replace(&long, "LONG"),
        r#"t/a_b.test:1:1: a second test named `t::a_b`; the first is t/a-b.test:1:1
t/comment.test:1:1: no line for the shell
t/empty.test:1:1: no line for the shell
t/nul.test:1:3: a NUL, which no command line can hold
t/slash.test:1:1: "x86/" names no selftest
t/two.test:3:2: a second line: a test is one line for the shell
LONG:1:1: a name of 201 bytes; at most 200 are allowed
elsewhere/t: a second suite named `t`; the first is t
"#
    );
}

#[test]
fn the_first_error_of_each_line_that_is_no_toml_is_told() {
    let text = r#"timeot_s = 1
timeout_s = 1
timeout_s = 2
[[test]]
name = unquoted
[[test]]
name = "c
[[test]
name = "d"
"#;
    assert_eq!(
        problems_of("a.toml", text),
        "a.toml:3:1: duplicate key
a.toml:5:8: string values must be quoted, expected literal string
a.toml:7:10: invalid basic string, expected `\"`
a.toml:8:8: unclosed array table, expected `]`
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
            "4:10: a matrix has 1 to 16 axes, not 0",
        ),
        (
            "command = \"true\"\nmatrix = [1]",
            "4:10: invalid type: sequence, expected a table",
        ),
        (
            "command = \"{a}{b}\"\nmatrix = { a = [1, \"1__b_2\"], b = [2, \"2__b_2\"] }",
            "1:1: two of its matrix's combinations are named `a_1__b_2__b_2`",
        ),
        (
            "command = \"{a} {modes}\"\nmatrix = { a = [1], mode = [1] }",
            "3:11: no placeholder `{modes}`; did you mean `mode`? (for the text itself write `{{modes}}`)",
        ),
        (
            "command = \"{a}\"\nmatrix = { a = [] }",
            "4:16: the axis `a` has no value",
        ),
        (
            "command = \"{a}\"\nmatrix = { a = [\"a.b\", \"a-b\"] }",
            "4:24: a second value named `a_a_b`",
        ),
        (
            "command = \"{a}\"\nmatrix = { a = [1.5] }",
            "4:17: invalid type: floating point `1.5`, expected a string, a whole number or a boolean",
        ),
        (
            "command = \"{a}\"\nmatrix = { a = [\"{vcpus}\"] }",
            "4:17: no placeholder `{vcpus}`; did you mean `ncpus`? (for the text itself write `{{vcpus}}`)",
        ),
        (
            "command = \"{a}\"\nmatrix = { ncpus = [1] }",
            "4:12: an axis cannot be called \"ncpus\"",
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
            "a.toml:1:1: `test` must be an array of tables, each `[[test]]`",
        ),
        (
            "a.toml",
            "test = [1]",
            "a.toml:1:9: invalid type: integer `1`, expected a table",
        ),
        (
            "a.toml",
            "default = 1",
            "a.toml:1:11: `default` must have tables, `[default.SELFTEST]`",
        ),
        (
            "a.toml",
            "args = []\n[[test]]\nname = \"a\"\ncommand = \"b\"",
            "a.toml:1:8: `args` belongs in a `[[test]]`",
        ),
        (
            "a.toml",
            "setup = \"{x}\"\n[[test]]\nname = \"a\"\ncommand = \"b\"",
            "a.toml:1:9: no placeholder `{x}`; known here: `ncpus` (for the text itself write `{{x}}`)",
        ),
        (
            "a-b.toml",
            SUITE,
            "a-b.toml:1:1: the name \"a-b\" is no identifier; `a_b` would be one: rename the file, or say `suite = \"…\"`",
        ),
        (
            "a.toml",
            "\u{feff}[[test]]",
            "a.toml:1:1: it begins with a byte order mark (BOM): save it as UTF-8 without one",
        ),
        (
            "a.json",
            "\u{feff}[]",
            "a.json:1:1: it begins with a byte order mark (BOM): save it as UTF-8 without one",
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
    let fixture = files(&[
        (
            "a.toml",
            "description = \"x\"\nfeatures = { tdp = false }\n",
        ),
        ("environments/b.toml", SUITE),
        ("c.toml", &format!("features = {{}}\n{SUITE}")),
    ]);
    let listed = list(&fixture, &["a.toml", "environments"]);
    assert!(
        listed.stdout.contains("\nb::a: test\n"),
        "{}",
        listed.stdout
    );
    let both = problems(&fixture, &["c.toml"]);
    assert!(
        both.starts_with("c.toml:1:1: unknown key `features`; "),
        "{both}"
    );
}

#[test]
fn a_directory_is_searched_without_hidden_files_and_each_file_read_once() {
    let fixture = files(&[
        ("d/b.toml", SUITE),
        ("d/a/z.toml", SUITE),
        ("d/a/c/d.test", "a_test"),
        ("d/a/README.md", "no"),
        ("d/.hidden/e.toml", "bad"),
        ("d/.f.toml", "bad"),
    ]);
    let root = fixture.path().join("d");
    symlink(&root, root.join("a/loop")).unwrap();
    symlink("..", root.join("a/c/up")).unwrap();
    let listed = list(&fixture, &["d", "d/a/../b.toml", "d/a", "d"]);
    let expected =
        "a_test::default: test\nb::a: test\nc::d: test\nz::a: test\n\n4 tests, 0 benchmarks\n";
    assert_eq!(listed.stdout, expected, "{}", listed.stderr);
}

#[test]
fn everything_wrong_with_files_and_directories_is_told_at_once() {
    let fixture = files(&[
        ("dir/a.toml", "bad"),
        ("dir/b.toml", "test = \"\u{f6}\u{f6}"),
        ("one/d.toml", SUITE),
        ("two/d.toml", SUITE),
        (
            "two/e.json",
            "[\n { \"suite\": \"d\", \"tests\": [{\"name\": \"a\", \"command\": \"b\"}] } ]",
        ),
        ("empty/README.md", ""),
        ("x.txt", ""),
        ("t/a.test", "a"),
        ("one/default.toml", "[default.a_test]\nweight = 2\n"),
        ("two/default.toml", "[default.a_test]\nweight = 2\n"),
    ]);
    let root = fixture.path();
    fs::write(root.join("dir/c.toml"), b"# \xc3\xb6\n# \xc3\xb6\xff").unwrap();
    symlink("nowhere", root.join("t/b.toml")).unwrap();
    symlink("c.toml", root.join("t/c.toml")).unwrap();
    let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, root.join("t/d.json"), fifo.0, fifo.1, 0).unwrap();
    let long = fs::File::create(root.join("t/e.json")).unwrap();
    long.set_len((16 << 20) + 1).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"t/f\xff.test")), "").unwrap();
    assert_eq!(
        problems(
            &fixture,
            &["dir", "missing.toml", "empty", "x.txt", "one", "two", "t"]
        ),
        "dir/a.toml:1:4: key with no value, expected `=`
dir/b.toml:1:11: invalid basic string, expected `\"`
dir/c.toml:2:4: not UTF-8
missing.toml: No such file or directory (os error 2)
empty: no .toml, .json or .test file in this directory
x.txt: neither a .toml, a .json nor a .test file
two/d.toml: a second suite named `d`; the first is one/d.toml
two/default.toml:1:10: a second `[default.a_test]`; the first is one/default.toml:1:10
two/e.json:2:2: a second suite named `d`; the first is one/d.toml
t/b.toml: No such file or directory (os error 2)
t/c.toml: Too many levels of symbolic links (os error 40)
t/d.json: it is no regular file
t/e.json: it is longer than 16777216 bytes
t/f\u{fffd}.test:1:1: no line for the shell
"
    );
}
