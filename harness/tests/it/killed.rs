//! The real program killed at random moments: nothing is left running, nothing that it reported is lost, and it can go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Fixture, Record, report, wait_until};
use crate::support::{Outcome, Status};

/// How often the runner is killed.
const KILLS: usize = 20;

/// Those of the kernel's that take a second or far more on some hosts: killed again and again, they would come to no end.
const SLOW: [&str; 28] = [
    "access_tracking",
    "apic_bus_clock",
    "coalesced_io",
    "demand_paging",
    "dirty_log",
    "fix_hypercall",
    "guest_memfd",
    "hardware_disable",
    "hyperv_clock",
    "hyperv_tlb_flush",
    "kvm_clock",
    "kvm_page_table",
    "max_guest_memory",
    "memslot",
    "mmu_stress",
    "nx_huge_pages",
    "recalc_apic_map",
    "rseq",
    "set_memory_region",
    "steal_time",
    "sync_regs",
    "system_counter_offset",
    "tsc_scaling",
    "vmx_preemption",
    "xapic_ipi",
    "xapic_state",
    "xen_",
    "irqfd",
];

/// A run that is killed and resumed again and again, and begun anew whenever it has come to its end.
struct Killed {
    fixture: Fixture,
    arguments: Vec<String>,
    selected: BTreeSet<String>,
    /// What was reported in the present run, and is no more run again.
    reported: BTreeMap<String, Outcome>,
    is_begun: bool,
}

impl Killed {
    fn new(fixture: Fixture, arguments: &[&str]) -> Self {
        let listed = fixture
            .command(arguments)
            .args(["--list", "--format", "terse"])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let selected: BTreeSet<_> = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect();
        assert!(selected.len() > 5, "{listed}");
        let arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        Self {
            fixture,
            arguments,
            selected,
            reported: BTreeMap::new(),
            is_begun: false,
        }
    }

    /// Begins the run, or goes on with it; kills it after `time`. Returns whether it lived as long.
    fn run_for(&mut self, time: Option<Duration>) -> bool {
        let mut command = match self.is_begun {
            true => self.fixture.command(&["--resume", "run"]),
            false => {
                self.reported.clear();
                let mut command = self.fixture.command(&["--output", "run", "--overwrite"]);
                command.args(&self.arguments);
                // What an earlier kill left has no run in it, where it came before the journal's first line.
                if Record::read(&self.fixture.results()).is_err() {
                    fs::remove_dir_all(self.fixture.results()).ok();
                }
                command
            }
        };
        let output = self.fixture.path().join("output");
        command
            .stdout(File::create(&output).unwrap())
            .stderr(Stdio::null());
        let begin = Instant::now();
        let mut child = command.spawn().unwrap();
        match time {
            Some(time) => thread::sleep(time),
            None => drop(child.wait().unwrap()),
        }
        let was_killed = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(
            was_killed || [0, 101].contains(&status.code().unwrap()),
            "{status} after {:?}",
            begin.elapsed()
        );
        self.check(&fs::read_to_string(&output).unwrap(), was_killed);
        was_killed
    }

    fn check(&mut self, output: &str, was_killed: bool) {
        wait_until(|| inhabitants(self.fixture.path()).is_empty());
        // A name is printed before its result: the last line may be torn.
        let printed: BTreeMap<&str, &str> = output
            .split_inclusive('\n')
            .filter_map(|line| {
                line.strip_suffix('\n')?
                    .strip_prefix("test ")?
                    .split_once(" ... ")
            })
            .map(|(name, result)| (name.trim(), result.split(' ').next().unwrap()))
            .filter(|(name, _)| self.selected.contains(*name))
            .collect();
        let Ok(record) = Record::read(&self.fixture.results()) else {
            assert!(
                was_killed && !self.is_begun && printed.is_empty(),
                "a run is lost:\n{output}"
            );
            return;
        };
        assert!(was_killed || record.finished);
        let mut outcomes = BTreeMap::new();
        for outcome in &record.outcomes {
            assert!(
                outcomes.insert(outcome.name.clone(), outcome).is_none(),
                "{} has two",
                outcome.name
            );
        }
        assert!(
            outcomes.keys().eq(&self.selected),
            "not one outcome for each: {:?}",
            outcomes.keys()
        );
        for (name, result) in printed {
            let expected = match outcomes[name].status {
                Status::Passed => "ok",
                Status::Skipped => "ignored",
                Status::Failed | Status::TimedOut | Status::NoRun => "FAILED",
            };
            assert_eq!(result, expected, "{name}");
            self.reported
                .insert(name.to_owned(), outcomes[name].clone());
        }
        for (name, outcome) in &self.reported {
            assert_eq!(outcomes[name], outcome, "what was reported has changed");
        }
        report(&self.fixture.results()).unwrap();
        self.is_begun = !record.finished;
        if record.finished {
            assert_eq!(record.of_status(Status::NoRun).count(), 0);
            self.is_begun = false;
        }
    }
}

fn kill_again_and_again(fixture: Fixture, arguments: &[&str]) {
    let seed = std::env::var("KVM_TESTS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("KVM_TESTS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut killed = Killed::new(fixture, arguments);
    let begin = Instant::now();
    killed.run_for(None);
    let moments = 0..u64::try_from(begin.elapsed().as_millis()).unwrap();
    let mut kills = 0;
    while kills < KILLS {
        let time = Duration::from_millis(random.u64(moments.clone()));
        kills += usize::from(killed.run_for(Some(time)));
    }
    killed.run_for(None);
    assert!(killed.fixture.record().finished);
}

/// The processes whose working directory is `directory`, or in it: the runner, its supervisors, and the cases.
fn inhabitants(directory: &Path) -> Vec<PathBuf> {
    let directory = directory.canonicalize().unwrap();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    processes
        .filter(|process| {
            fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&directory))
        })
        .collect()
}

#[test]
fn whenever_the_runner_is_killed_nothing_is_left_or_lost_and_the_run_can_go_on() {
    let mut fixture = Fixture::new();
    for number in 0..4 {
        fixture = fixture
            .selftest(&format!("a{number}_test"), "echo fine; sleep 0.02")
            .selftest(
                &format!("b{number}_test"),
                "sleep 1000 & setsid -w sh -c 'sleep 0.03'; kill $!",
            )
            .selftest(
                &format!("c{number}_test"),
                "echo '1..0 # SKIP not here'; exit 4",
            )
            .selftest(
                &format!("d{number}_test"),
                "(setsid sleep 0.01 &); echo wrong >&2; exit 1",
            );
    }
    kill_again_and_again(fixture, &["--selftests", "selftests", "_test::default"]);
}

/// The same with the kernel's own: `KVM_SELFTESTS=DIR cargo test -p harness --test killed -- --ignored`.
#[test]
#[ignore = "needs KVM and the kernel's selftests (KVM_SELFTESTS)"]
fn whenever_a_run_of_real_selftests_is_killed_nothing_is_left_or_lost_and_the_run_can_go_on() {
    let selftests =
        std::env::var("KVM_SELFTESTS").expect("KVM_SELFTESTS says where the selftests are");
    let fixture = Fixture::new().on_the_real_host();
    let arguments = [
        "--selftests",
        &selftests,
        "--timeout",
        "20",
        "_test::default",
    ];
    let skipped = SLOW.iter().flat_map(|name| ["--skip", name]);
    let arguments: Vec<&str> = arguments.into_iter().chain(skipped).collect();
    kill_again_and_again(fixture, &arguments);
}
