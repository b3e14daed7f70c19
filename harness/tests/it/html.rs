//! The report as a page: what it holds, and that a browser shows it.
//!
//! The tests of the browser need Debian's `chromium` and are run by
//! `cargo test -p harness --test html -- --ignored`. They keep pictures of the pages in target/tmp/html, which are
//! there to be looked at. `KVM_TESTS_RUN=DIRECTORY` has them check the report of that run as well.

mod browser;
mod records;

use std::collections::BTreeMap;
use std::path::Path;

use browser::{Browser, Scheme, Scripts};
use harness::log::record::Record;
use harness::model::outcome::Status;
use harness::report::html;
use records::{HOSTILE, hostile, large, small};

/// A directory that has none of these cases' outputs.
const WITHOUT_OUTPUTS: &str = "/";

fn report(record: &Record, directory: &Path, previous: Option<&Record>) -> String {
    let mut page = Vec::new();
    html::write(record, directory, previous, &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// The words in the cells of the matrix, as often as they are there.
fn counts_of_matrix(page: &str) -> BTreeMap<&str, usize> {
    let start = page.find("id=\"matrix\"").unwrap();
    let end = start + page[start..].find("</section>").unwrap();
    let mut counts = BTreeMap::new();
    for cell in page[start..end].split("<td").skip(1) {
        let cell = &cell[cell.find('>').unwrap() + 1..];
        // The word may stand in a link.
        let word = cell
            .strip_prefix("<a")
            .map_or(cell, |link| &link[link.find('>').unwrap() + 1..]);
        let word = word.split(['<', ' ']).next().unwrap();
        *counts.entry(word).or_insert(0) += 1;
    }
    counts.remove("not");
    counts
}

fn counts_of_record(record: &Record) -> BTreeMap<&'static str, usize> {
    let statuses = [
        Status::Passed,
        Status::Skipped,
        Status::Failed,
        Status::TimedOut,
        Status::NoRun,
    ];
    let counts = statuses.map(|status| (status.as_str(), record.of_status(status).count()));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn the_matrix_counts_what_the_run_counts() {
    for record in [small(), large(), hostile()] {
        let page = report(&record, Path::new(WITHOUT_OUTPUTS), None);
        assert_eq!(counts_of_matrix(&page), counts_of_record(&record));
    }
}

#[test]
fn a_failure_is_shown_with_all_that_is_known_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("shadow/cpuid_test/default");
    std::fs::create_dir_all(&output).unwrap();
    std::fs::write(output.join("command.stderr"), "the end of stderr\n").unwrap();
    std::fs::write(
        output.join("command.stdout"),
        "x".repeat(100_000) + "\nthe end of stdout\n",
    )
    .unwrap();
    let page = report(&small(), directory.path(), None);
    for part in [
        "shadow::cpuid_test::default",
        "x86_64/cpuid_test.c:94: e1-&gt;eax == e2-&gt;eax",
        "CPUID 0x1.0 differ",
        "1 of 2 failed",
        "vm.second",
        "sleep</code> (pid 7), which even SIGKILL did not end",
        "cd /inst &amp;&amp; ./cpuid_test",
        "ended by SIGSEGV (11), core dumped",
        "the end of stderr",
        "the end of stdout",
        "its end, of 97.7K bytes",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.len() < 60_000, "{} bytes", page.len());
}

#[test]
fn durations_and_failures_are_held_against_the_run_before() {
    let (record, mut previous) = (small(), small());
    for outcome in &mut previous.outcomes {
        outcome.duration_s /= 2.0;
        if outcome.name == "shadow::cpuid_test::default" {
            outcome.status = Status::Passed;
        }
    }
    let page = report(&record, Path::new(WITHOUT_OUTPUTS), Some(&previous));
    assert!(page.contains("× 2.00 slower"));
    assert_eq!(page.matches(">NEW<").count(), 1);
    assert!(page.contains("PASSED in the run before"));
    assert!(!report(&record, Path::new(WITHOUT_OUTPUTS), None).contains(">NEW<"));
}

#[test]
fn nothing_untrusted_becomes_markup() {
    let directory = tempfile::tempdir().unwrap();
    let record = hostile();
    for outcome in &record.outcomes {
        let output = directory.path().join(outcome.output.as_ref().unwrap());
        std::fs::create_dir_all(&output).unwrap();
        std::fs::write(
            output.join("command.stdout"),
            [HOSTILE.as_bytes(), b"\xff\xfe\xc3("].concat(),
        )
        .unwrap();
        std::fs::write(output.join("command.stderr"), "m".repeat(1 << 20)).unwrap();
    }
    let page = report(&record, directory.path(), None);
    for part in [
        "<script",
        "<img",
        "onerror=\"",
        "\0",
        "\x1b",
        "\u{202e}",
        "\u{feff}",
        "\r",
    ] {
        assert!(!page.contains(part), "{part:?}");
    }
    for part in [
        "&lt;/script&gt;&lt;script&gt;alert(1)",
        "\\x00",
        "\\u{202e}",
        "\\u{1ffff}",
        "\\xff\\xfe",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.len() < 100_000, "{} bytes", page.len());
}

#[test]
fn the_page_refers_to_nothing_but_itself() {
    for record in [small(), large()] {
        let page = report(&record, Path::new(WITHOUT_OUTPUTS), None);
        for attribute in [
            " src=", " srcset=", "url(", "@import", "<script", "<link", "<iframe",
        ] {
            assert!(!page.contains(attribute), "{attribute}");
        }
        for link in page.split(" href=\"").skip(1) {
            let target = link.split('"').next().unwrap();
            let id = target.strip_prefix('#').expect("a link within the page");
            assert!(page.contains(&format!(" id=\"{id}\"")), "{target}");
        }
    }
}

#[test]
fn the_time_line_has_a_bar_for_each_case_that_can_be_seen() {
    let bars = |record: &Record| {
        let page = report(record, Path::new(WITHOUT_OUTPUTS), None);
        page.matches("style=\"left:").count()
    };
    let mut record = small();
    let all = bars(&record);
    // Two that take no time, one after the other.
    for (outcome, start) in record
        .outcomes
        .iter_mut()
        .filter(|outcome| outcome.worker == 0)
        .zip([0, 1, 9000])
    {
        outcome.started_ms = record.run.started_ms + start;
        outcome.duration_s = if start < 9000 { 0.001 } else { 1.0 };
    }
    assert_eq!(all - bars(&record), 1);
}

#[test]
fn five_thousand_cases_make_a_page_of_modest_size() {
    let page = report(&large(), Path::new(WITHOUT_OUTPUTS), None);
    assert!(page.len() < 2_500_000, "{} bytes", page.len());
}

#[test]
fn a_run_without_cases_is_said_to_have_tested_nothing() {
    let record = Record {
        outcomes: Vec::new(),
        finished: false,
        duration_s: None,
        ..small()
    };
    let page = report(&record, Path::new(WITHOUT_OUTPUTS), None);
    assert!(page.contains("Nothing was tested"));
    assert!(page.contains("did not come to its end"));
}

#[test]
fn a_run_that_took_no_time_is_drawn_too() {
    let mut record = Record {
        duration_s: Some(0.0),
        ..small()
    };
    for outcome in &mut record.outcomes {
        (outcome.started_ms, outcome.duration_s) = (record.run.started_ms, 0.0);
    }
    let page = report(&record, Path::new(WITHOUT_OUTPUTS), Some(&record));
    assert!(page.contains("left:0.000%;width:0.000%"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
#[ignore = "needs chromium"]
fn a_browser_shows_it_in_light_and_dark_without_complaint() {
    let mut pages = vec![
        ("small", small(), WITHOUT_OUTPUTS.into()),
        ("large", large(), WITHOUT_OUTPUTS.into()),
    ];
    pages.push(("hostile", hostile(), WITHOUT_OUTPUTS.into()));
    if let Some(run) = std::env::var_os("KVM_TESTS_RUN") {
        let (record, directory) = Record::read(Path::new(&run)).unwrap();
        pages.push(("real", record, directory));
    }
    for (name, record, directory) in pages {
        let browser = Browser::new(name);
        let page = report(&record, &directory, None);
        for scripts in [Scripts::Off, Scripts::On] {
            let shown = browser.open(&page, scripts);
            assert_eq!(shown.complaints, Vec::<String>::new(), "{name}");
            assert_eq!(shown.requests, Vec::<String>::new(), "{name}");
            assert_eq!(
                counts_of_matrix(&shown.dom),
                counts_of_record(&record),
                "{name}"
            );
        }
        [Scheme::Light, Scheme::Dark]
            .into_iter()
            .for_each(|scheme| browser.picture(&page, scheme));
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_browser_complains_of_what_a_page_must_not_do() {
    let page = report(&small(), Path::new(WITHOUT_OUTPUTS), None);
    let browser = Browser::new("bad");
    let fetching = page.replace("<main>", "<main><img src=\"http://127.0.0.1:9/x.png\">");
    assert_ne!(
        browser.open(&fetching, Scripts::On).complaints,
        Vec::<String>::new()
    );
    let scripted = page.replace("<main>", "<main><script>document.title = 'x'</script>");
    assert_ne!(
        browser.open(&scripted, Scripts::On).complaints,
        Vec::<String>::new()
    );
    let free = |page: &str| page.replace("Content-Security-Policy", "x");
    assert_ne!(
        browser.open(&free(&fetching), Scripts::On).requests,
        Vec::<String>::new()
    );
    assert!(
        browser
            .open(&free(&scripted), Scripts::On)
            .dom
            .contains("<title>x")
    );
    assert!(
        !browser
            .open(&free(&scripted), Scripts::Off)
            .dom
            .contains("<title>x")
    );
}
