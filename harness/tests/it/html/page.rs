//! What the page says.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::reports::report_of;
use crate::support::made::{
    STARTED_MS, asserting, everything, hostile, inside, iteration, outcome, run, with,
};
use crate::support::report;

/// The page of a run, held against one before.
fn after(earlier: &Value, later: &Value) -> String {
    let results = tempfile::tempdir().unwrap();
    let keep = |run: &Value, time: &str| {
        let directory = results.path().join(time);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("run.json"), run.to_string()).unwrap();
        directory
    };
    keep(earlier, "2026-11-22T18-42-49Z");
    let directory = keep(later, "2026-11-22T19-00-00Z");
    report(&directory).unwrap();
    fs::read_to_string(directory.join("report.html")).unwrap()
}

fn page(run: &Value) -> String {
    report_of(run, "report.html", &[])
}

/// One case in four environments, of which it fails alike in two.
fn in_four_environments() -> Value {
    let failed = asserting(
        "state_test::default",
        "state_test.c",
        26,
        "exit == 2",
        "Wanted 2, got 17",
    );
    let passed = outcome("state_test::default", "PASSED", "");
    run(&[
        inside("shadow_mmu", &failed),
        inside("nested_off", &failed),
        inside("pmu_off", &passed),
        passed,
    ])
}

#[test]
fn failures_alike_are_one_with_all_that_is_known_of_it() {
    let output = [(
        "shadow_mmu/state_test/default/command.stderr",
        &b"line\n".repeat(10_000)[..],
    )];
    let page = report_of(&in_four_environments(), "report.html", &output);
    assert_eq!(page.matches("<details class=\"failure").count(), 1);
    for part in [
        "shadow_mmu, nested_off, 2 others ✓",
        "state_test.c:26: exit == 2",
        "<pre>Wanted 2, got 17</pre>",
        "shadow_mmu::state_test::default: 0.25 s from 2023-11-14 22:13:20 UTC",
        "nested_off::state_test::default: 0.25 s from 2023-11-14 22:13:20 UTC",
        "kvm-tests with shadow_mmu -- sh -c &#39;cd /selftests &amp;&amp; /selftests/state_test&#39;",
        "stderr of the selftest",
        "line\nline\n</pre>",
    ] {
        assert!(
            page.contains(&part.replace("&#39;", "'")),
            "{part} is not in {page}"
        );
    }
    assert!(page.len() < 40_000, "{} bytes", page.len());
}

/// The cells of the matrix with what they say.
fn cells(page: &str) -> Vec<&str> {
    let start = page.find("<tbody").unwrap();
    let end = start + page[start..].find("</table>").unwrap();
    let cells = page[start..end].split("<td class=\"").skip(1);
    cells
        .map(|cell| cell.split("</td>").next().unwrap())
        .collect()
}

#[test]
fn the_matrix_has_a_sign_for_each_case_in_each_environment() {
    let flaky = |number| iteration(number, &outcome("flaky::default", "FAILED", "why"));
    let flaky = [
        flaky(1),
        flaky(2),
        iteration(3, &outcome("flaky::default", "PASSED", "")),
    ];
    let page = page(&run(&[
        &flaky[..],
        &[inside("off", &outcome("x::y", "SKIPPED", "no <moon>"))],
    ]
    .concat()));
    let expected = [
        "failed\" title=\"1 PASSED, 2 FAILED\"><a href=\"#f1\">✗</a>",
        "skipped\" title=\"no &lt;moon&gt;\">–",
    ];
    assert_eq!(cells(&page), expected);
}

#[test]
fn rows_that_read_the_same_are_folded_but_those_with_failures() {
    let mut outcomes: Vec<_> = (0..9)
        .map(|number| outcome(&format!("p{number}::x"), "PASSED", ""))
        .collect();
    outcomes.extend((0..9).map(|number| outcome(&format!("f{number}::x"), "FAILED", "why")));
    let page = page(&run(&outcomes));
    assert_eq!(page.matches("<tbody class=\"fold\">").count(), 1);
    assert_eq!(page.matches("<tbody").count(), 10);
    assert!(
        page.contains("<input type=\"checkbox\">9 cases</label>"),
        "{page}"
    );
    assert!(page.find("f8").unwrap() < page.find("p0").unwrap());
}

#[test]
fn new_and_slower_say_against_which_run() {
    let (earlier, mut later) = (everything(), everything());
    later["outcomes"][0]["duration_s"] = json!(7.5);
    later["outcomes"][7]["status"] = json!("FAILED");
    let page = after(&earlier, &later);
    assert_eq!(page.matches(">NEW<").count(), 1);
    assert!(
        page.contains("NEW is what did not fail in the run 2026-11-22T18-42-49Z"),
        "{page}"
    );
    assert!(
        page.contains("0.25 s from 2023-11-14 22:13:20 UTC on (PASSED before)"),
        "{page}"
    );
    assert!(
        page.contains("<td class=\"number slower\">0.25 s, slower</td>"),
        "{page}"
    );
    let alone = report_of(&everything(), "report.html", &[]);
    assert!(
        !alone.contains(">NEW<") && alone.contains("There is no earlier run of the same cases")
    );
}

#[test]
fn nothing_untrusted_becomes_markup() {
    let page = page(&hostile());
    for part in [
        "<script>alert",
        "<img",
        "onerror=\"",
        "\0",
        "\x1b",
        "\u{202e}",
        "\u{feff}",
        "\u{1fffe}",
        "\r",
    ] {
        assert!(!page.contains(part), "{part:?}");
    }
    for part in [
        "&lt;/script&gt;&lt;script&gt;alert(1)",
        "\\x00",
        "\\u{202e}",
        "\\u{1ffff}",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<script").count(), 1);
}

#[test]
fn the_policy_knows_the_script_by_its_hash() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/html/find.js");
    let sum = std::process::Command::new("sha256sum")
        .arg(script)
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let bit = |index: usize| {
        let digit = sum.as_bytes().get(index / 4).filter(|_| index < 256);
        let digit = digit.map_or(0, |digit| char::from(*digit).to_digit(16).unwrap());
        digit >> (3 - index % 4) & 1
    };
    let letters: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let letter = |first: usize| (first..first + 6).fold(0, |sum, index| sum << 1 | bit(index));
    let base64: String = (0..256)
        .step_by(6)
        .map(|first| letters[letter(first) as usize])
        .collect();
    let page = page(&everything());
    assert!(
        page.contains(&format!("script-src 'sha256-{base64}='")),
        "{base64}"
    );
}

#[test]
fn the_page_refers_to_nothing_but_itself() {
    let page = page(&everything());
    for attribute in [" src=", " srcset=", "url(", "@import", "<link", "<iframe"] {
        assert!(!page.contains(attribute), "{attribute}");
    }
    for link in page.split(" href=\"").skip(1) {
        let id = link.split('"').next().unwrap().strip_prefix('#').unwrap();
        assert!(page.contains(&format!(" id=\"{id}\"")), "{id}");
    }
}

#[test]
fn the_time_line_has_a_bar_for_what_can_be_seen() {
    let case = |name: &str, ms: u64, seconds: f64| {
        let members = json!({"started_ms": STARTED_MS + ms, "duration_s": seconds});
        with(&outcome(name, "PASSED", ""), members)
    };
    let bars = |outcomes: &[Value]| page(&run(outcomes)).matches("style=\"left:").count();
    assert_eq!(
        bars(&[
            case("a::x", 0, 0.001),
            case("b::x", 1, 0.001),
            case("c::x", 9000, 1.0)
        ]),
        2
    );
    assert_eq!(bars(&[case("a::x", 0, 0.0)]), 1);
    let none = with(&run(&[]), json!({"finished": false}));
    let none = page(&none);
    assert!(none.contains("Nothing was tested") && none.contains("did not come to its end"));
    assert!(!none.contains("NaN") && !none.contains("inf%"));
}

#[test]
fn twelve_thousand_cases_make_a_page_of_modest_size() {
    let case = |number: u64| {
        let (environment, case) = (number / 1000, number % 1000);
        let case = outcome(&format!("some_long_selftest_{case}::default"), "PASSED", "");
        let case = with(&case, json!({"started_ms": STARTED_MS + 250 * number}));
        inside(&format!("environment_{environment}"), &case)
    };
    let page = page(&run(&(0..12_000).map(case).collect::<Vec<_>>()));
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}
