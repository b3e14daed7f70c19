//! Runs that never happened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::log::record::Record;
use harness::model::entry::{RunInfo, SCHEMA_VERSION};
use harness::model::host::Host;
use harness::model::outcome::{Assertion, Exit, Leak, Outcome, Status, Subtest, SubtestResult};
use harness::model::stay::Stay;

/// Text that would break out of markup, terminals and lines, if it could.
pub(crate) const HOSTILE: &str = "]]></script><script>alert(1)</script><!-- \" onerror=\"x ' & &amp; \0 \x1b[31m \x1b]0;t\x07 \r \
                           \u{202e}evil\u{2066} \u{feff} \u{85} \u{fffe} \u{1ffff} \u{5d0}\u{5d1} </pre></details><img src=x>";

/// Three cases on the host and in one more environment, of which one failed in every way at once.
pub(crate) fn small() -> Record {
    let mut outcomes: Vec<_> = [None, Some("shadow")]
        .into_iter()
        .flat_map(|environment| {
            ["amx_test", "cpuid_test", "dirty_log_test"]
                .map(|suite| outcome(environment, suite, "default"))
        })
        .collect();
    outcomes.remove(5);
    for (outcome, start) in outcomes.iter_mut().zip(0..) {
        outcome.started_ms += start * 1000;
        outcome.worker = usize::try_from(start % 2).unwrap();
    }
    outcomes[0].set(
        Status::Skipped,
        "Requirement not met: kvm_cpu_has(X86_FEATURE_AMX)".to_owned(),
    );
    outcomes[2].set(Status::TimedOut, "did not end in its time".to_owned());
    outcomes[2].exit = Some(Exit::Timeout);
    let failed = &mut outcomes[4];
    failed.set(
        Status::Failed,
        "ended by SIGSEGV\nleft a process behind".to_owned(),
    );
    failed.exit = Some(Exit::Signal {
        signal: 11,
        core_dumped: true,
    });
    failed.assertion = Some(Box::new(Assertion {
        file: "x86_64/cpuid_test.c".to_owned(),
        line: 94,
        expression: "e1->eax == e2->eax".to_owned(),
        message: "CPUID 0x1.0 differ".to_owned(),
        errno: Some(0),
    }));
    failed.subtests = vec![
        subtest("vm.first", SubtestResult::Ok),
        subtest("vm.second", SubtestResult::NotOk),
    ];
    failed.leaks = vec![Leak {
        pid: 7,
        command: "sleep".to_owned(),
        unkillable: true,
    }];
    record(outcomes)
}

/// Five thousand cases in three environments: some skipped, one of fifty failed.
pub(crate) fn large() -> Record {
    let environments = [None, Some("shadow_mmu"), Some("nested_off")];
    let mut outcomes = Vec::new();
    let mut free_at = [0_u64; 8];
    for number in 0_u64..5000 {
        let environment = environments[usize::try_from(number / 1667).unwrap()];
        let (suite, variant) = (
            format!("suite_{}_test", number % 1667 / 20),
            format!("sweep::vcpus_{}", number % 20),
        );
        let mut outcome = outcome(environment, &suite, &variant);
        let worker = (0..free_at.len())
            .min_by_key(|worker| free_at[*worker])
            .unwrap();
        let ms = 20 + number * number % 997 * (1 + number % 7);
        outcome.worker = worker;
        outcome.started_ms += free_at[worker];
        free_at[worker] += ms + 30;
        outcome.duration_s = std::time::Duration::from_millis(ms).as_secs_f64();
        match number % 50 {
            0 => outcome.set(
                Status::Failed,
                format!("lib/kvm_util.c:{number}: ret == 0\nKVM_RUN failed"),
            ),
            1 if number % 500 == 1 => {
                outcome.set(Status::TimedOut, "did not end in its time".to_owned())
            }
            2..12 => outcome.set(
                Status::Skipped,
                format!("Requirement not met: feature {}", number % 9),
            ),
            _ => {}
        }
        outcomes.push(outcome);
    }
    let ms = free_at.into_iter().max().unwrap();
    Record {
        duration_s: Some(std::time::Duration::from_millis(ms).as_secs_f64()),
        ..record(outcomes)
    }
}

/// A run whose every text is hostile.
pub(crate) fn hostile() -> Record {
    let mut outcomes = vec![
        outcome(Some("bad"), "first", "default"),
        outcome(Some("bad"), "second", "default"),
    ];
    outcomes.push(outcome(None, "third", "default"));
    for outcome in &mut outcomes {
        outcome.set(Status::Failed, format!("{HOSTILE}\n{HOSTILE}"));
        outcome.reproduce = HOSTILE.to_owned();
        outcome.environment = outcome.environment.take().map(|_| HOSTILE.to_owned());
        outcome.suite = HOSTILE.to_owned();
        outcome.name = format!("{}{HOSTILE}", outcome.name);
        outcome.assertion = Some(Box::new(Assertion {
            file: HOSTILE.to_owned(),
            line: u32::MAX,
            expression: HOSTILE.repeat(2),
            message: HOSTILE.to_owned(),
            errno: None,
        }));
        outcome.subtests = (0..3000)
            .map(|_| subtest(HOSTILE, SubtestResult::Ok))
            .collect();
        outcome
            .subtests
            .push(subtest(HOSTILE, SubtestResult::NotOk));
        outcome.leaks = vec![Leak {
            pid: -1,
            command: HOSTILE.to_owned(),
            unkillable: true,
        }];
    }
    outcomes[2].set(Status::Skipped, HOSTILE.to_owned());
    let mut record = record(outcomes);
    record.run.command_line = vec![HOSTILE.to_owned()];
    record.run.host.hostname = HOSTILE.to_owned();
    record.run.host.kernel = HOSTILE.to_owned();
    record.run.host.kvm_problem = Some(HOSTILE.to_owned());
    record.run.host.modules.insert(
        HOSTILE.to_owned(),
        BTreeMap::from([(HOSTILE.to_owned(), HOSTILE.to_owned())]),
    );
    record.stays = vec![Stay {
        environment: HOSTILE.to_owned(),
        pid: 7,
        settings: vec![HOSTILE.to_owned()],
        notes: vec![HOSTILE.to_owned()],
        modules: BTreeMap::from([(
            HOSTILE.to_owned(),
            BTreeMap::from([(HOSTILE.to_owned(), "Y".to_owned())]),
        )]),
        entering_ms: record.run.started_ms,
        entered_ms: record.run.started_ms + 100,
        leaving_ms: Some(record.run.started_ms + 9000),
        left_ms: Some(record.run.started_ms + 9500),
        problem: Some(HOSTILE.to_owned()),
    }];
    record
}

fn subtest(name: &str, result: SubtestResult) -> Subtest {
    Subtest {
        name: name.to_owned(),
        result,
        reason: None,
    }
}

fn outcome(environment: Option<&str>, suite: &str, variant: &str) -> Outcome {
    let prefix = environment
        .map(|environment| format!("{environment}::"))
        .unwrap_or_default();
    let name = format!("{prefix}{suite}::{variant}");
    Outcome {
        output: Some(PathBuf::from(name.replace("::", "/"))),
        name,
        environment: environment.map(str::to_owned),
        suite: suite.to_owned(),
        variant: variant.to_owned(),
        status: Status::Passed,
        reason: None,
        exit: Some(Exit::Code(0)),
        pid: Some(4711),
        started_ms: 1_795_370_071_485,
        duration_s: 2.5,
        user_s: 0.5,
        system_s: 0.25,
        max_rss: 8 << 20,
        worker: 0,
        stdout_bytes: None,
        stderr_bytes: None,
        reproduce: format!("cd /inst && ./{suite}"),
        assertion: None,
        subtests: Vec::new(),
        leaks: Vec::new(),
        splats: Vec::new(),
        suspect: false,
        left_behind: Vec::new(),
    }
}

fn record(outcomes: Vec<Outcome>) -> Record {
    let run = RunInfo {
        schema_version: SCHEMA_VERSION,
        version: "0.1.0".to_owned(),
        command_line: vec![
            "kvm".to_owned(),
            "--selftests".to_owned(),
            "/inst".to_owned(),
        ],
        options: Vec::new(),
        directory: PathBuf::new(),
        started_ms: 1_795_370_071_470,
        host: Host {
            hostname: "host".to_owned(),
            kernel: "6.12.117".to_owned(),
            kernel_version: "#1 SMP".to_owned(),
            machine: "x86_64".to_owned(),
            cpu_vendor: "GenuineIntel".to_owned(),
            cpu_model: "A CPU @ 2 GHz".to_owned(),
            cpus: 8,
            memory: 32 << 30,
            free_hugepages: BTreeMap::from([(2 << 20, 64)]),
            kvm_problem: None,
            modules: BTreeMap::from([(
                "kvm_intel".to_owned(),
                BTreeMap::from([("ept".to_owned(), "Y".to_owned())]),
            )]),
            taint: 512,
        },
        selftests: vec![PathBuf::from("/inst")],
        workers: 8,
        shuffle_seed: None,
        selected: outcomes.len(),
        nextest_run_id: None,
    };
    Record {
        outcomes,
        finished: true,
        duration_s: Some(10.0),
        ..Record::begun(run)
    }
}
