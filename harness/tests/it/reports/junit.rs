//! junit.xml: what it says, that it is well-formed, and that readers with limits take it.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::json;

use crate::reports::report_of;
use crate::support::made::{HOSTILE, everything, hostile, inside, outcome, run, with};

#[test]
fn every_status_has_its_element_and_the_host_its_properties_once() {
    let junit = report_of(
        &everything(),
        "junit.xml",
        &[("plain/fails/command.stderr", b"a\tb <\n")],
    );
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="kvm-tests" tests="8" failures="4" errors="0" skipped="2" timestamp="2023-11-14T22:13:20Z" time="12.500">
<testsuite name="kvm" tests="7" failures="4" errors="0" skipped="2" timestamp="2023-11-14T22:13:20Z" time="1.750" hostname="lab">
<properties>
<property name="kvm-tests" value="0.1.0"/>
<property name="command_line" value="kvm-tests run &apos;a b&apos;"/>
<property name="started" value="2023-11-14 22:13:20 UTC"/>
<property name="selected" value="8"/>
<property name="workers" value="2"/>
<property name="selftests" value="/selftests"/>
<property name="host.name" value="lab"/>
<property name="host.kernel" value="6.12.1"/>
<property name="host.kernel_version" value="\#1 SMP"/>
<property name="host.machine" value="x86_64"/>
<property name="host.cpu" value="GenuineIntel a model"/>
<property name="host.cpus" value="2"/>
<property name="host.memory" value="4G"/>
<property name="host.free_hugepages" value="0 of 2M"/>
<property name="host.taint" value="no"/>
<property name="module.kvm_intel" value="ept=Y"/>
</properties>
<testcase name="default" classname="kvm.crash" time="0.250">
<failure message="killed by SIGSEGV" type="SIGSEGV">killed by SIGSEGV
reproduce: cd /selftests &amp;&amp; /selftests/crash</failure>
</testcase>
<testcase name="fails" classname="kvm.plain" time="0.250">
<failure message="a.c:7: x == y" type="FAILED">a.c:7: x == y
errno 1: told
reproduce: cd /selftests &amp;&amp; /selftests/plain</failure>
<system-err>a	b &lt;
</system-err>
</testcase>
<testcase name="hangs" classname="kvm.plain" time="0.250">
<failure message="did not end in its time" type="TIMED_OUT">did not end in its time
reproduce: cd /selftests &amp;&amp; /selftests/plain</failure>
</testcase>
<testcase name="never" classname="kvm.plain" time="0.250">
<failure message="setup failed" type="NO_RUN">setup failed
reproduce: cd /selftests &amp;&amp; /selftests/plain</failure>
</testcase>
<testcase name="passes" classname="kvm.plain" time="0.250"/>
<testcase name="skipped" classname="kvm.plain" time="0.250">
<skipped message="no such thing"/>
</testcase>
<testcase name="default" classname="kvm.skipped" time="0.250">
<skipped message=""/>
</testcase>
</testsuite>
<testsuite name="kvm.shadow" tests="1" failures="0" errors="0" skipped="0" timestamp="2023-11-14T22:13:20Z" time="0.250" hostname="lab">
<properties>
<property name="environment" value="shadow"/>
</properties>
<testcase name="passes" classname="kvm.shadow.plain" time="0.250"/>
</testsuite>
</testsuites>
"#;
    assert_eq!(junit, expected.replace("\\#", "#"));
}

#[test]
fn it_is_well_formed_whatever_a_test_printed() {
    let output = HOSTILE.as_bytes();
    let junit = report_of(&hostile(), "junit.xml", &[("a/b/command.stdout", output)]);
    // XML 1.0 has no other characters (2.2 Characters).
    let is_xml = |c: char| matches!(c, '\t' | '\n' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    assert_eq!(junit.find(|c| !is_xml(c)), None);
    assert!(
        junit.contains("<system-out>]]&gt;&lt;/script&gt;"),
        "{junit}"
    );
    objects(&junit);
}

/// How many elements, attributes and texts there are.
fn objects(xml: &str) -> usize {
    let (mut reader, mut count, mut is_in_text) = (Reader::from_str(xml), 0, false);
    loop {
        let event = reader.read_event().unwrap();
        let was_in_text = std::mem::replace(&mut is_in_text, false);
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                count += 1 + tag.attributes().map(Result::unwrap).count();
            }
            Event::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {}
            Event::Text(_) | Event::GeneralRef(_) => {
                count += usize::from(!was_in_text);
                is_in_text = true;
            }
            Event::Eof => return count,
            _ => {}
        }
    }
}

#[test]
fn thousands_of_cases_stay_within_what_readers_take() {
    let environments: Vec<_> = (0..13)
        .map(|number| format!("environment_{number}"))
        .collect();
    let reason = "lib/kvm_util.c:1234: KVM_SET_USER_MEMORY_REGION2 failed, rc: -1 errno: 22 (Invalid argument)";
    let case = |number: usize| {
        let status = ["PASSED", "PASSED", "PASSED", "PASSED", "FAILED", "SKIPPED"][number % 6];
        outcome(
            &format!("some_long_selftest_{number}::default"),
            status,
            reason,
        )
    };
    let cases: Vec<_> = (0..195).map(case).collect();
    let all = environments
        .iter()
        .flat_map(|name| cases.iter().map(|case| inside(name, case)));
    // All have one output: to make and remove thousands of files takes longer than all else.
    let all: Vec<_> = all
        .map(|case| with(&case, json!({"output": "shared"})))
        .collect();
    let output = [("shared/command.stdout", &[b'x'; 20 << 10][..])];
    let junit = report_of(&run(&all), "junit.xml", &output);
    assert!(junit.len() < 2_000_000, "{} bytes", junit.len());
    let failed = outcome("a::b", "FAILED", reason);
    let numbered = |number: u32| {
        let number = number.to_string();
        with(
            &failed,
            json!({"name": format!("a::{number}"), "variant": number}),
        )
    };
    let run = run(&(0..3_000).map(numbered).collect::<Vec<_>>());
    let junit = report_of(&run, "junit.xml", &[]);
    assert!(junit.len() < 3_000_000, "{} bytes", junit.len());
    let objects = objects(&junit);
    // GitLab takes 250,000 objects of a file, and 30,000 cases are to fit into one.
    assert!(objects < 25_000, "{objects}");
}
