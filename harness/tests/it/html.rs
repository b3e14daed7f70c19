//! report.html: what it says, and that a browser shows it without complaint, in light and dark, narrow and wide.
//!
//! The tests of the browser need Debian's `chromium` and are run by `cargo test -p harness --test it html:: -- --ignored`. They keep pictures of the
//! pages in target/tmp/html, which are there to be looked at. `KVM_TESTS_RUN=DIRECTORY` has them check that run's page as well.

mod browser;
mod page;

use std::fs;
use std::path::Path;

use browser::{Browser, Scheme, Scripts, WIDTHS};
use serde_json::{Value, json};

use crate::reports::report_of;
use crate::support::made::{STARTED_MS, everything, hostile, inside, outcome, run, with};
use crate::support::report;

/// The page of this run.
fn page(run: &Value) -> String {
    report_of(run, "report.html", &[])
}

/// So many cases in each of so many environments, with all that may become of them.
fn large(environments: u64, cases: u64) -> Value {
    let reason = "lib/kvm_util.c:1234: KVM_SET_USER_MEMORY_REGION2 failed, rc: -1 errno: 22 (Invalid argument)";
    let names = [
        "dirty_log_test::default",
        "x86_dirty_log_perf_tests::sweep::backing_src_shmem__vcpus_4",
        "cpuid_test::default",
        "svm_nested_soft_inject_test::default",
    ];
    let places =
        (0..environments).flat_map(|environment| (0..cases).map(move |case| (environment, case)));
    let outcomes = places.map(|(environment, case)| {
        let (suite, variant) = names[case as usize % names.len()].split_once("::").unwrap();
        let status = match case % 65 {
            3 if environment % 4 != 1 => "FAILED",
            7 if environment == 2 => "TIMED_OUT",
            9 if environment == 5 => "NO_RUN",
            10..=20 => "SKIPPED",
            21..=22 if environment > 3 => "SKIPPED",
            _ => "PASSED",
        };
        let outcome = outcome(&format!("{suite}_{case}::{variant}"), status, reason);
        let started_ms = STARTED_MS + (environment * cases + case) * 125;
        let outcome = with(
            &outcome,
            json!({"worker": case % 2, "started_ms": started_ms}),
        );
        match environment {
            0 => outcome,
            number => inside(&format!("environment_with_a_name_{number}"), &outcome),
        }
    });
    run(&outcomes.collect::<Vec<_>>())
}

/// How many cells of the matrix have which class.
fn cells(page: &str) -> [usize; 5] {
    let start = page.find("id=\"matrix\"").unwrap();
    let matrix = &page[start..start + page[start..].find("</table>").unwrap()];
    let of = |class: &str| {
        matrix
            .matches(&format!("<td class=\"{class}\" title="))
            .count()
    };
    ["passed", "skipped", "failed", "timed_out", "no_run"].map(of)
}

fn outcomes(run: &Value) -> [usize; 5] {
    let outcomes = run["outcomes"].as_array().unwrap();
    let of = |status: &str| {
        outcomes
            .iter()
            .filter(|outcome| outcome["status"] == status)
            .count()
    };
    ["PASSED", "SKIPPED", "FAILED", "TIMED_OUT", "NO_RUN"].map(of)
}

#[test]
#[ignore = "needs chromium"]
fn a_browser_shows_it_in_light_and_dark_without_complaint() {
    let runs = [
        ("everything", everything()),
        ("hostile", hostile()),
        ("thirteen_environments", large(13, 195)),
        ("twelve_thousand_cases", large(12, 1000)),
    ];
    for (name, run) in runs {
        let page = page(&run);
        assert_eq!(cells(&page), outcomes(&run), "{name}");
        let browser = Browser::new(name);
        for scripts in [Scripts::Off, Scripts::On] {
            let shown = browser.open(&page, scripts);
            assert_eq!(shown.complaints, Vec::<String>::new(), "{name}");
            assert_eq!(shown.requests, Vec::<String>::new(), "{name}");
            assert_eq!(cells(&shown.dom), outcomes(&run), "{name}");
        }
        for scheme in [Scheme::Light, Scheme::Dark] {
            WIDTHS
                .iter()
                .for_each(|width| browser.picture(&page, scheme, *width));
        }
    }
    if let Some(run) = std::env::var_os("KVM_TESTS_RUN") {
        let directory = Path::new(&run);
        report(directory).unwrap();
        let page = fs::read_to_string(directory.join("report.html")).unwrap();
        let browser = Browser::new("real");
        assert_eq!(
            browser.open(&page, Scripts::On).complaints,
            Vec::<String>::new()
        );
        browser.picture(&page, Scheme::Light, WIDTHS[0]);
    }
}

#[test]
#[ignore = "needs chromium"]
fn nothing_but_the_matrix_is_wider_than_the_page_and_no_cell_has_three_lines() {
    for (name, run) in [
        ("thirteen_environments", large(13, 195)),
        ("twelve_thousand_cases", large(12, 1000)),
    ] {
        let (page, browser) = (page(&run), Browser::new(name));
        for width in WIDTHS {
            let measured = browser.measure(&page, width);
            assert_eq!(measured["page"], measured["width"], "{name} at {width}");
            assert_eq!(measured["tall"], json!([]), "{name} at {width}");
            assert!(measured["cells"].as_u64().unwrap() > 2500);
        }
    }
}

#[test]
#[ignore = "needs chromium"]
fn cases_are_found_by_their_text_where_scripts_may_run() {
    let (page, browser) = (page(&large(2, 195)), Browser::new("find"));
    let hidden = |scripts, fragment| {
        let dom = browser.open_at(&page, scripts, fragment).dom;
        let is_finding = dom.contains("<body class=\"finding\">");
        (
            is_finding,
            dom.matches("<tr class=\"case").count(),
            dom.matches(" other\"><th").count(),
        )
    };
    assert_eq!(hidden(Scripts::On, ""), (false, 195, 0));
    assert_eq!(hidden(Scripts::On, "#find=cpuid"), (true, 195, 195 - 49));
    assert_eq!(hidden(Scripts::Off, "#find=cpuid"), (false, 195, 0));
}

#[test]
#[ignore = "needs chromium"]
fn the_browser_complains_of_what_a_page_must_not_do() {
    let (page, browser) = (page(&everything()), Browser::new("bad"));
    let after_head = |markup: &str| page.replacen("<body>", &format!("<body>{markup}"), 1);
    let fetching = after_head("<img src=\"http://127.0.0.1:9/x.png\">");
    let scripted = after_head("<script>document.title = 'x'</script>");
    for bad in [&fetching, &scripted] {
        assert_ne!(
            browser.open(bad, Scripts::On).complaints,
            Vec::<String>::new()
        );
    }
    let free = |page: &str| page.replace("Content-Security-Policy", "x");
    assert_ne!(
        browser.open(&free(&fetching), Scripts::On).requests,
        Vec::<String>::new()
    );
    let has_run = |scripts| {
        browser
            .open(&free(&scripted), scripts)
            .dom
            .contains("<title>x")
    };
    assert!(has_run(Scripts::On) && !has_run(Scripts::Off));
}
