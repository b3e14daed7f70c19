//! The engine of environments on directories that stand for hosts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::environment::definition::Definition;
use harness::environment::root::Root;
use harness::environment::{Entered, Environments, Refusal, definition_toml};
use harness::plan::files::EnvironmentSource;

use crate::support::fake_host::FakeHost;

fn define(settings: &[&str]) -> Definition {
    let (params, sets): (Vec<&&str>, Vec<&&str>) = settings
        .iter()
        .partition(|setting| setting.split('=').next().unwrap().contains('.'));
    let owned = |options: Vec<&&str>| {
        options
            .into_iter()
            .map(|option| (*option).to_owned())
            .collect::<Vec<_>>()
    };
    Definition::from_options(&owned(sets), &owned(params)).unwrap()
}

fn define_toml(text: &str) -> Definition {
    definition_toml::read(&EnvironmentSource {
        path: "e.toml".into(),
        text: text.to_owned(),
    })
    .unwrap()
}

fn never(message: &str) -> ControlFlow<()> {
    panic!("nothing to wait for: {message}")
}

fn enter(host: &FakeHost, definition: &Definition) -> Result<Entered, Refusal> {
    host.environments()
        .enter(definition, |_| ControlFlow::Continue(()))
}

fn refused(host: &FakeHost, definition: &Definition) -> String {
    let before = host.state();
    let refusal = enter(host, definition).unwrap_err();
    assert_eq!(host.state(), before, "{refusal}");
    assert_eq!(host.calls(), [""; 0], "{refusal}");
    match refusal {
        Refusal::Refused(reason) => reason,
        other => panic!("refused rather than {other:?}"),
    }
}

fn impossible(host: &FakeHost, definition: &Definition) -> String {
    match host.environments().plan(definition).refusal {
        Some(Refusal::Impossible(reason)) => reason,
        other => panic!("impossible rather than {other:?}"),
    }
}

/// Enters, looks with `look`, leaves, and finds everything as it was.
fn there_and_back(host: &FakeHost, definition: &Definition, look: impl FnOnce()) {
    let before = host.state();
    let entered = enter(host, definition).unwrap();
    assert!(host.has_journal());
    look();
    entered.leave().unwrap();
    assert_eq!(host.state(), before);
    assert!(!host.has_journal());
}

#[test]
fn modinfo_is_asked_nothing_for_the_host_as_it_is_and_nothing_twice() {
    let host = FakeHost::amd();
    for user in [
        host.environments(),
        Environments::new(host.root().unprivileged()),
    ] {
        user.enter(&Definition::host(), never)
            .unwrap()
            .leave()
            .unwrap();
    }
    assert_eq!(host.asked(), [""; 0]);

    let environments = host.environments();
    for settings in ["tdp=off", "nested=off"] {
        environments
            .enter(&define(&[settings]), never)
            .unwrap()
            .leave()
            .unwrap();
    }
    assert_eq!(host.asked(), ["-p kvm", "-p kvm_amd"]);
}

#[test]
fn tdp_off_reloads_the_vendor_module_alone_and_derived_values_are_not_pinned() {
    let host = FakeHost::amd();
    let definition = define(&["tdp=off"]);
    assert_eq!(
        host.environments().plan(&definition).to_string(),
        "reload kvm_amd with kvm_amd.npt=N (now Y)"
    );
    let before = host.state();
    let entered = enter(&host, &definition).unwrap();
    assert_eq!(
        (host.parameter("kvm_amd.npt"), host.parameter("kvm.tdp_mmu")),
        ("N".to_owned(), "N".to_owned())
    );
    assert_eq!(entered.notes, ["kvm.tdp_mmu reads N with it"]);
    assert_eq!(
        host.calls(),
        [
            "rmmod kvm_amd",
            "modprobe kvm_amd",
            "rmmod kvm_amd",
            "modprobe kvm_amd npt=N"
        ]
    );
    entered.leave().unwrap();
    assert_eq!(host.calls(), ["rmmod kvm_amd", "modprobe kvm_amd"]);
    assert_eq!(host.state(), before);
}

#[test]
fn the_same_feature_is_another_parameter_on_intel_and_always_on_elsewhere() {
    let host = FakeHost::intel();
    there_and_back(&host, &define(&["tdp=off"]), || {
        assert_eq!(host.parameter("kvm_intel.ept"), "N");
        assert_eq!(host.parameter("kvm_intel.unrestricted_guest"), "N");
        assert_eq!(
            host.parameter("kvm_intel.vmentry_l1d_flush"),
            "not required"
        );
    });
    let arm = FakeHost::arm();
    assert_eq!(
        impossible(&arm, &define(&["tdp=off"])),
        "`tdp` is always on with Arm"
    );
    assert!(arm.environments().plan(&define(&["tdp=on"])).is_nothing());
    assert_eq!(
        impossible(&arm, &define(&["apicv=off"])),
        "Arm has no `apicv`"
    );
    let reason = impossible(&arm, &define(&["nested=on"]));
    assert_eq!(
        reason,
        "`nested` needs the kernel to be booted with kvm-arm.mode=nested"
    );
    arm.put("proc/cmdline", "quiet kvm-arm.mode=nested\n");
    assert!(
        arm.environments()
            .plan(&define(&["nested=on"]))
            .is_nothing()
    );
}

#[test]
fn on_s390_kvm_itself_is_loaded_anew_with_the_type_s_own_spelling() {
    let host = FakeHost::s390();
    there_and_back(&host, &define(&["nested=on", "halt_polling=off"]), || {
        assert_eq!(
            (
                host.parameter("kvm.nested"),
                host.parameter("kvm.halt_poll_ns")
            ),
            ("1".to_owned(), "0".to_owned())
        );
    });
}

#[test]
fn what_can_be_written_is_written_without_a_reload_even_where_kvm_is_built_in() {
    let host = FakeHost::arm();
    there_and_back(&host, &define(&["halt_polling=7"]), || {
        assert_eq!(host.parameter("kvm.halt_poll_ns"), "7");
    });
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn kvm_s_own_parameters_take_both_modules_and_what_was_written_by_hand_survives() {
    let host = FakeHost::amd();
    host.put("sys/module/kvm/parameters/halt_poll_ns", "12345\n");
    there_and_back(&host, &define(&["tdp_mmu=off"]), || {
        assert_eq!(
            (
                host.parameter("kvm.tdp_mmu"),
                host.parameter("kvm.halt_poll_ns")
            ),
            ("N".to_owned(), "12345".to_owned())
        );
    });
}

#[test]
fn what_the_user_had_loaded_with_is_kept_and_modprobe_d_stays_in_force() {
    let host = FakeHost::amd();
    host.unload("kvm_amd");
    host.put("etc/modprobe.d/kvm.conf", "options kvm_amd vls=0\n");
    host.load("kvm_amd", &["nested=0"]);
    there_and_back(&host, &define(&["tdp=off"]), || {
        assert_eq!(
            (
                host.parameter("kvm_amd.vls"),
                host.parameter("kvm_amd.nested")
            ),
            ("0".to_owned(), "0".to_owned())
        );
        let calls = host.calls();
        assert_eq!(calls.last().unwrap(), "modprobe kvm_amd nested=0 npt=N");
        assert!(
            calls
                .iter()
                .all(|call| !call.contains("vls") && !call.contains("tdp_mmu")),
            "{calls:?}"
        );
    });
    assert_eq!(host.calls(), ["rmmod kvm_amd", "modprobe kvm_amd nested=0"]);
}

#[test]
fn a_user_s_own_shadow_paging_comes_back_without_what_follows_from_it() {
    let host = FakeHost::amd();
    host.unload("kvm_amd");
    host.load("kvm_amd", &["npt=0"]);
    there_and_back(&host, &define(&["nested=off"]), || {
        assert_eq!(host.parameter("kvm_amd.npt"), "N")
    });
    assert_eq!(host.calls().last().unwrap(), "modprobe kvm_amd npt=N");
}

#[test]
fn a_second_environment_of_one_runner_needs_not_find_out_again() {
    let host = FakeHost::amd();
    let environments = host.environments();
    for (settings, reloads) in [(["nested=off"], 3), (["tdp=off"], 2)] {
        environments
            .enter(&define(&settings), never)
            .unwrap()
            .leave()
            .unwrap();
        let calls = host.calls();
        assert_eq!(
            calls
                .iter()
                .filter(|call| call.starts_with("modprobe"))
                .count(),
            reloads,
            "{calls:?}"
        );
    }
}

#[test]
fn nx_huge_pages_never_is_set_and_undone_by_a_reload() {
    let host = FakeHost::amd();
    there_and_back(&host, &define(&["nx_huge_pages=never"]), || {
        assert_eq!(host.parameter("kvm.nx_huge_pages"), "never");
        assert!(
            host.calls()
                .contains(&"modprobe kvm nx_huge_pages=never".to_owned())
        );
    });
    assert!(host.calls().contains(&"rmmod kvm".to_owned()));
}

#[test]
fn modules_that_were_not_loaded_are_loaded_and_unloaded_again() {
    let host = FakeHost::amd();
    for module in ["kvm_amd", "kvm", "irqbypass"] {
        host.unload(module);
    }
    let definition = define(&["nested=off"]);
    assert_eq!(
        host.environments().plan(&definition).to_string(),
        "load kvm and kvm_amd with kvm_amd.nested=0 (now nothing yet)"
    );
    there_and_back(&host, &definition, || {
        assert_eq!(host.parameter("kvm_amd.nested"), "0")
    });
    assert_eq!(host.get("proc/modules"), "loop 4096 0 - Live 0x0");
}

#[test]
fn what_the_vendor_module_leaves_in_kvm_takes_kvm_s_own_reload() {
    let host = FakeHost::amd();
    host.unload("kvm_amd");
    there_and_back(&host, &define(&["tdp=off"]), || {
        assert_eq!(host.parameter("kvm.tdp_mmu"), "N")
    });
    assert_eq!(
        host.calls(),
        [
            "modprobe kvm_amd npt=N",
            "rmmod kvm_amd",
            "rmmod kvm",
            "modprobe kvm"
        ]
    );
}

#[test]
fn the_device_keeps_its_mode_and_owner() {
    let host = FakeHost::amd();
    fs::set_permissions(host.path("dev/kvm"), fs::Permissions::from_mode(0o666)).unwrap();
    let owner = fs::metadata(host.path("dev/kvm")).unwrap().uid();
    there_and_back(&host, &define(&["tdp=off"]), || {
        let metadata = fs::metadata(host.path("dev/kvm")).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o666, owner));
    });
}

#[test]
fn hugepages_sysctls_and_sysfs_values_are_set_and_put_back() {
    let host = FakeHost::arm();
    let definition = define_toml(
        "hugepages = { \"2M\" = { node1 = 8 } }\nsysctls = { \"kernel.numa_balancing\" = 0 }\n\
         sysfs = { \"/sys/kernel/mm/transparent_hugepage/enabled\" = \"always\" }\n",
    );
    let before = host.get("sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages");
    let entered = enter(&host, &definition).unwrap();
    assert_eq!(
        host.get("sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"),
        "8"
    );
    assert_eq!(host.get("proc/sys/kernel/numa_balancing"), "0");
    entered.leave().unwrap();
    assert_eq!(
        host.get("sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"),
        before
    );
    assert_eq!(host.get("proc/sys/kernel/numa_balancing"), "1");
    assert_eq!(
        host.get("sys/kernel/mm/transparent_hugepage/enabled"),
        "madvise"
    );
    assert!(
        enter(&host, &define_toml("hugepages = { \"2M\" = 4 }"))
            .unwrap()
            .notes
            .is_empty()
    );
}

#[test]
fn what_cannot_be_done_is_refused_with_a_sentence_and_nothing_is_touched() {
    let host = FakeHost::amd();
    assert_eq!(
        refused(&host, &define(&["kvm_amd.neste=0"])),
        "--param kvm_amd.neste=0: kvm_amd has no parameter `neste`; did you mean `nested`?"
    );
    assert_eq!(
        refused(&host, &define(&["kvm_amd.npt=maybe"])),
        "--param kvm_amd.npt=maybe: `kvm_amd.npt` takes Y or N, not `maybe`"
    );
    assert_eq!(
        refused(&host, &define(&["loop.max_loop=1"])),
        "--param loop.max_loop=1: loop is no module of KVM's here; only those can be set"
    );
    let reason = refused(&host, &define_toml("hugepages = { \"1G\" = 1 }"));
    assert_eq!(
        reason,
        "e.toml:1:15: this kernel has no hugepages of 1G; it has 2M"
    );
    let reason = refused(&host, &define_toml("sysctls = { \"kernel.nothing\" = 1 }"));
    assert!(
        reason.starts_with("e.toml:1:13: read /proc/sys/kernel/nothing: No such file"),
        "{reason}"
    );
    assert!(
        impossible(&host, &define(&["kvm_intel.ept=0"]))
            .contains("kvm_intel is not a module of this host (AMD, kvm loaded")
    );

    host.process(4711, "qemu-system-x86_64 -enable-kvm", "anon_inode:kvm-vm");
    host.put("sys/module/kvm_amd/refcnt", "1\n");
    assert_eq!(
        refused(&host, &define(&["tdp=off"])),
        "kvm_amd is in use by pid 4711 (qemu-system-x86_64 -enable-kvm): end it first"
    );
    host.put("sys/module/kvm_amd/refcnt", "0\n");

    host.put("lib/kvm_amd/install", "install /bin/false\n");
    assert_eq!(
        refused(&host, &define(&["tdp=off"])),
        "modprobe.d has it run `/bin/false` instead of loading kvm_amd: take that out first"
    );
    fs::remove_file(host.path("lib/kvm_amd/install")).unwrap();

    let user = Environments::new(host.root().unprivileged());
    assert_eq!(
        user.enter(&define(&["tdp=off"]), never)
            .unwrap_err()
            .to_string(),
        "only root can do that: run this with sudo"
    );
    user.enter(&define(&["tdp=on"]), never)
        .unwrap()
        .leave()
        .unwrap();

    fs::remove_file(host.path("bin/rmmod")).unwrap();
    let without = Environments::new(Root::at(&host.path(""), host.path("bin")));
    assert_eq!(
        without
            .enter(&define(&["tdp=off"]), never)
            .unwrap_err()
            .to_string(),
        "there is no rmmod in PATH: install kmod"
    );
}

#[test]
fn a_built_in_kvm_is_refused_with_what_to_boot_with() {
    let host = FakeHost::amd();
    host.built_in("kvm_amd");
    host.built_in("kvm");
    let reason = refused(&host, &define(&["tdp=off"]));
    assert_eq!(
        reason,
        "kvm_amd cannot be unloaded, it is built into this kernel: boot with kvm_amd.npt=N, or use a kernel with kvm_amd as a module"
    );
}

#[test]
fn an_unknown_vendor_module_makes_features_impossible() {
    let host = FakeHost::new("vendor_id\t: AuthenticAMD\nflags\t\t: fpu\n");
    assert!(impossible(&host, &define(&["tdp=off"])).starts_with("this CPU shows no svm"));
    host.module("kvm", &[], &[("tdp_mmu", "bool", "N", 0o444)]);
    host.module("kvm_other", &["kvm"], &[("knob", "bool", "N", 0o444)]);
    host.load("kvm_other", &[]);
    host.built_in("kvm_other");
    host.built_in("kvm");
    assert_eq!(
        host.environments().platform().to_string(),
        "an unknown platform, kvm built in, kvm_other built in"
    );
    assert_eq!(
        impossible(&host, &define(&["tdp=off"])),
        "`tdp` is not known for the vendor module kvm_other"
    );
    assert!(
        host.environments()
            .plan(&define(&["tdp_mmu=off"]))
            .is_nothing()
    );
}

#[test]
fn a_value_that_does_not_read_back_is_an_error_with_the_kernel_s_own_line_and_all_is_put_back() {
    let host = FakeHost::amd();
    let before = host.state();
    host.behave("case $* in *nested=0*) echo '4,1,1,-;kvm_amd: nested is not for you' >>\"$root/dev/kmsg\"; set -- --first-time kvm_amd ;; esac");
    let refusal = enter(&host, &define(&["nested=off"])).unwrap_err();
    let expected = "kvm_amd.nested was set to 0, but reads 1; the kernel says: `kvm_amd: nested is not for you`; everything is as it was";
    assert_eq!(refusal, Refusal::Failed(expected.to_owned()));
    assert_eq!(host.state(), before);
    assert!(!host.has_journal());
}

#[test]
fn a_feature_that_the_kernel_does_not_turn_on_is_impossible_here() {
    let host = FakeHost::amd();
    let before = host.state();
    host.behave("case $* in *avic=Y*) set -- --first-time kvm_amd ;; esac");
    let refusal = enter(&host, &define(&["apicv=on"])).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Impossible(reason) if reason.contains("does not turn `apicv` on")),
        "{refusal}"
    );
    assert_eq!(host.state(), before);
}

#[test]
fn a_failed_load_that_leaves_kvm_without_its_vendor_module_is_put_back() {
    let host = FakeHost::amd();
    let before = host.state();
    host.behave(
        "case $* in *npt=N*) echo 'modprobe: ERROR: could not insert: Invalid argument' >&2; exit 1 ;; esac",
    );
    let refusal = enter(&host, &define(&["tdp=off"])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "modprobe kvm_amd npt=N: modprobe: ERROR: could not insert: Invalid argument; everything is as it was"
    );
    assert_eq!(host.state(), before);
}

#[test]
fn a_modprobe_that_hangs_is_killed_and_counts_as_failed() {
    let host = FakeHost::amd();
    let before = host.state();
    host.behave("case $* in *npt=N*) sleep 600 ;; esac");
    let environments = Environments::new(
        host.root()
            .with_times(Duration::from_millis(700), Duration::from_millis(100)),
    );
    let refusal = environments
        .enter(&define(&["tdp=off"]), never)
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "modprobe kvm_amd npt=N: it hung, and was killed after 0.7 s; everything is as it was"
    );
    assert_eq!(host.state(), before);
}

#[test]
fn what_cannot_be_restored_is_said_with_the_command_and_the_journal_stays() {
    let host = FakeHost::amd();
    let before = host.state();
    let entered = enter(&host, &define(&["tdp=off"])).unwrap();
    host.behave("echo 'modprobe: FATAL: broken' >&2; exit 1");
    let refusal = entered.leave().unwrap_err();
    let expected = "the host could not be restored: modprobe kvm_amd: modprobe: FATAL: broken; kvm_amd.avic was N and reads nothing; \
                    kvm_amd.nested was 1 and reads nothing; kvm_amd.npt was Y and reads nothing; kvm_amd.vls was 1 and reads nothing; \
                    kvm.tdp_mmu was Y and reads N; kvm_amd was loaded and is not; to do it by hand: rmmod kvm_amd; modprobe kvm_amd";
    let mut reasons: Vec<String> = refusal.to_string().split("; ").map(str::to_owned).collect();
    let mut expected: Vec<String> = expected.split("; ").map(str::to_owned).collect();
    // The device, too, is gone.
    reasons.retain(|reason| !reason.contains("/dev/kvm"));
    reasons.sort();
    expected.sort();
    assert_eq!(reasons, expected);
    assert!(host.has_journal());

    fs::remove_file(host.path("behave")).unwrap();
    assert_eq!(
        host.environments().restore(never).unwrap().as_deref(),
        Some("tdp_off")
    );
    assert_eq!(host.state(), before);
    assert_eq!(host.environments().restore(never).unwrap(), None);
}

#[test]
fn a_journal_that_is_damaged_or_newer_is_shown_and_nothing_is_touched() {
    let host = FakeHost::amd();
    drop(enter(&host, &Definition::host()).unwrap());
    for (text, why) in [
        ("{\"vers", "is damaged (EOF"),
        (
            "{\"version\": 99, \"x\": 1}",
            "is from a newer kvm-tests (version 99)",
        ),
    ] {
        host.put("run/kvm-tests/journal.json", text);
        let reason = refused(&host, &define(&["tdp=off"]));
        assert!(
            reason.contains(why) && reason.contains(&text.escape_debug().to_string()),
            "{reason}"
        );
        assert!(refused(&host, &Definition::host()).contains("not guessed at"));
        assert_eq!(host.get("run/kvm-tests/journal.json"), text);
    }
}

#[test]
fn a_journal_of_another_boot_is_dropped() {
    let host = FakeHost::amd();
    let entered = enter(&host, &define(&["halt_polling=off"])).unwrap();
    std::mem::forget(entered);
    host.put("proc/sys/kernel/random/boot_id", "another-boot\n");
    assert_eq!(host.environments().restore(never).unwrap(), None);
    assert_eq!(host.parameter("kvm.halt_poll_ns"), "0");
    assert!(!host.has_journal());
}

#[test]
fn dropping_what_was_entered_restores_the_host() {
    let host = FakeHost::amd();
    let before = host.state();
    drop(enter(&host, &define(&["tdp=off"])).unwrap());
    assert_eq!(host.state(), before);
}

#[test]
fn those_who_want_the_same_share_it_and_the_last_one_restores() {
    let host = FakeHost::amd();
    let before = host.state();
    let first = enter(&host, &define(&["tdp=off"])).unwrap();
    host.calls();
    let second = enter(&host, &define(&["tdp=false"])).unwrap();
    first.leave().unwrap();
    assert_eq!(host.calls(), [""; 0]);
    assert_eq!(host.parameter("kvm_amd.npt"), "N");
    second.leave().unwrap();
    assert_eq!(host.state(), before);
}

/// The engine by itself, with a host's files.
fn program(host: &FakeHost, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_environment"));
    command
        .args(args)
        .env("KVM_TESTS_ROOT", host.path(""))
        .env("PATH", host.search())
        .stdin(Stdio::null());
    command
}

/// Waits until a file is there.
fn wait_for(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that stays in an environment until the file `go` appears.
fn stay(host: &FakeHost, settings: &str) -> (Child, PathBuf) {
    stay_as(host, &["with", settings])
}

fn stay_as(host: &FakeHost, how: &[&str]) -> (Child, PathBuf) {
    let go = host.path("go");
    // It ends with the directory, too, for the tests that kill whoever started it.
    let script = format!(
        "touch '{0}.in'; while [ -e '{0}.in' ] && ! [ -e '{0}' ]; do sleep 0.01; done",
        go.display()
    );
    let child = program(host, how)
        .args(["--", "sh", "-c", &script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&host.path("go.in"));
    (child, go)
}

#[test]
fn another_process_waits_for_those_in_another_environment_and_is_told_who_they_are() {
    let host = FakeHost::amd();
    let (mut first, go) = stay(&host, "tdp=off");
    let mut second = program(&host, &["with", "nested=off", "--", "true"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines();
    let said = lines
        .find(|line| line.as_ref().unwrap().starts_with("waiting"))
        .unwrap()
        .unwrap();
    assert!(
        said.starts_with(&format!("waiting for pid {} (", first.id())),
        "{said}"
    );
    assert!(said.ends_with("needs this host at tdp=off"), "{said}");
    fs::write(go, "").unwrap();
    assert!(first.wait().unwrap().success());
    drop(lines);
    assert!(second.wait().unwrap().success());
}

#[test]
fn inside_an_environment_the_host_as_it_is_is_that_one_and_another_is_refused() {
    let host = FakeHost::amd();
    let run = |settings: &str| {
        let mut command = program(
            &host,
            &[
                "with",
                "tdp=off",
                "--",
                env!("CARGO_BIN_EXE_environment"),
                "with",
            ],
        );
        command
            .args(settings.split_whitespace())
            .args(["--", "cat"])
            .arg(host.path("sys/module/kvm_amd/parameters/npt"));
        command.output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&run("").stdout), "N\n");
    assert_eq!(String::from_utf8_lossy(&run("tdp=off").stdout), "N\n");
    let refused = run("nested=off");
    assert_eq!(refused.status.code(), Some(101));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("refused: this runs inside pid "));
}

/// Starts a program and waits for the line on its standard error that begins with `says`.
fn start_until(mut command: Command, says: &str) -> (Child, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines
        .find_map(|line| line.ok().filter(|line| line.starts_with(says)))
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (child, line)
}

#[test]
fn the_host_is_not_changed_under_a_user_who_needs_it_as_it_is() {
    let host = FakeHost::amd();
    // Root makes the queue in which both can stand, and is no longer in it.
    let root = enter(&host, &Definition::host()).unwrap();
    let (mut user, go) = stay_as(&host, &["as_user"]);
    root.leave().unwrap();
    let change = program(&host, &["with", "tdp=off", "--", "true"]);
    let (mut changing, line) = start_until(change, "waiting for pid ");
    assert!(
        line.starts_with(&format!("waiting for pid {} (", user.id())),
        "{line}"
    );
    assert!(
        line.contains(", started at 20") && line.ends_with("which needs this host as it is"),
        "{line}"
    );
    assert_eq!(host.parameter("kvm_amd.npt"), "Y");
    fs::write(go, "").unwrap();
    assert!(user.wait().unwrap().success() && changing.wait().unwrap().success());
    assert!(host.calls().iter().any(|call| call.contains("npt=N")));
}

#[test]
fn a_user_who_needs_the_host_as_it_is_waits_until_it_is_again() {
    let host = FakeHost::amd();
    let (mut changed, go) = stay(&host, "tdp=off");
    let npt = host.path("sys/module/kvm_amd/parameters/npt");
    let mut look = program(&host, &["as_user", "--", "cat"]);
    look.arg(npt);
    let (user, line) = start_until(look, "waiting for pid ");
    assert!(line.contains(&format!("pid {} (", changed.id())), "{line}");
    fs::write(go, "").unwrap();
    assert!(changed.wait().unwrap().success());
    assert_eq!(user.wait_with_output().unwrap().stdout, b"Y\n");
}

#[test]
fn a_user_does_not_run_in_what_a_killed_run_has_left() {
    let host = FakeHost::amd();
    let (mut killed, go) = stay(&host, "tdp=off");
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::write(go, "").unwrap();
    let refused = program(&host, &["as_user", "--", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(101));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("a killed run has left this host changed"),
        "{said}"
    );
}

#[test]
fn after_sigkill_in_an_environment_the_next_start_restores() {
    let host = FakeHost::amd();
    let before = host.state();
    let (mut killed, go) = stay(&host, "tdp=off");
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::write(go, "").unwrap();
    assert_eq!(
        (host.parameter("kvm_amd.npt"), host.has_journal()),
        ("N".to_owned(), true)
    );
    let entered = enter(&host, &Definition::host()).unwrap();
    assert_eq!(
        entered.notes,
        [format!(
            "restored the host, which a killed run (pid {}) left in tdp_off",
            killed.id()
        )]
    );
    assert_eq!(host.state(), before);
    entered.leave().unwrap();
}

#[test]
fn after_sigkill_between_unloading_and_loading_restore_brings_everything_back() {
    let host = FakeHost::amd();
    let before = host.state();
    // Of the two times that the module is loaded on the way, it is caught at each.
    for caught in ["kvm_amd", "kvm_amd npt=N"] {
        host.behave(&format!(
            "[ \"$*\" != '--first-time {caught}' ] || {{ echo $$ >\"$root/caught.new\"; mv \"$root/caught.new\" \"$root/caught\"; exec sleep 600; }}"
        ));
        let mut killed = program(&host, &["with", "tdp=off", "--", "true"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(&host.path("caught"));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let orphan = rustix::process::Pid::from_raw(host.get("caught").parse().unwrap()).unwrap();
        rustix::process::kill_process(orphan, rustix::process::Signal::KILL).unwrap();
        fs::remove_file(host.path("caught")).unwrap();
        fs::remove_file(host.path("behave")).unwrap();
        assert!(!host.path("sys/module/kvm_amd").exists());
        assert_eq!(
            host.environments().restore(never).unwrap().as_deref(),
            Some("tdp_off")
        );
        assert_eq!(host.state(), before);
    }
}

#[test]
fn every_shipped_environment_is_a_plan_on_amd_and_on_intel() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kvm-tests/environments");
    let configuration = harness::plan::files::read(&[directory], 1);
    assert_eq!(configuration.problems, []);
    let plans = |host: &FakeHost| -> Vec<String> {
        let definitions = configuration
            .environments
            .iter()
            .map(|file| definition_toml::read(file).unwrap());
        definitions
            .map(|definition| {
                format!(
                    "{}: {}",
                    definition.name,
                    host.environments().plan(&definition)
                )
            })
            .collect()
    };
    let hugepages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let everywhere = [
        "eager_page_split_off: write kvm.eager_page_split=N (now Y)",
        "emulation_prefix: write kvm.force_emulation_prefix=1 (now 0)",
        "halt_polling_off: write kvm.halt_poll_ns=0 (now 200000)",
        &format!("hugetlb: write {hugepages}: 4 becomes at least 256"),
        "no_huge_pages: write /sys/kernel/mm/transparent_hugepage/enabled=never (now madvise)",
        "nx_huge_pages_forced: write kvm.nx_huge_pages=force (now N)",
    ];
    let of_amd = [
        "apicv_off: nothing to do: this host is that way already",
        "nested_off: reload kvm_amd with kvm_amd.nested=0 (now 1)",
        "pmu_off: reload kvm and kvm_amd with kvm.enable_pmu=N (now Y)",
        "shadow_mmu: reload kvm_amd with kvm_amd.npt=N (now Y)",
        "shadow_mmu_no_nested: reload kvm_amd with kvm_amd.nested=0 (now 1), kvm_amd.npt=N (now Y)",
        "tdp_mmu_off: reload kvm and kvm_amd with kvm.tdp_mmu=N (now Y)",
    ];
    let of_intel = [
        "apicv_off: reload kvm_intel with kvm_intel.enable_apicv=N (now Y)",
        "nested_off: reload kvm_intel with kvm_intel.nested=N (now Y)",
        "pmu_off: reload kvm and kvm_intel with kvm.enable_pmu=N (now Y)",
        "shadow_mmu: reload kvm_intel with kvm_intel.ept=N (now Y)",
        "shadow_mmu_no_nested: reload kvm_intel with kvm_intel.nested=N (now Y), kvm_intel.ept=N (now Y)",
        "tdp_mmu_off: reload kvm and kvm_intel with kvm.tdp_mmu=N (now Y)",
    ];
    for (host, own) in [(FakeHost::amd(), of_amd), (FakeHost::intel(), of_intel)] {
        let mut expected: Vec<&str> = everywhere.iter().chain(&own).copied().collect();
        expected.sort_unstable();
        let mut plans = plans(&host);
        plans.sort();
        assert_eq!(plans, expected);
        assert_eq!(host.calls(), [""; 0]);
    }
}
