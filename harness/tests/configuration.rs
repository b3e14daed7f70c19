//! What is said about whole files and directories.

use harness::config::{self, Configuration};

fn problems(configuration: &Configuration) -> String {
    configuration.problems.iter().map(|problem| format!("{problem}\n")).collect()
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
    let configuration = config::read_embedded(&[("suites/bad.toml", text)]);
    assert_eq!(
        problems(&configuration),
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
