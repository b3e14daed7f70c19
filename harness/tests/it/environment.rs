//! Environments on directories that stand for hosts: the real program, and scripted programs of kmod.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::fake_host::FakeHost;
use crate::support::{Ran, lines_with};

/// What a plan says where there is nothing to do.
const NOTHING: &str = "nothing to do: this host is that way already";

/// What `restore` says where there is nothing to do.
const RESTORED: &str = "nothing to restore: this host is as it was\n";

/// `--set` or `--param` for each of `settings`.
fn options<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let option = |setting: &&'a str| {
        let name = setting.split('=').next().unwrap();
        let is_param = name.contains('.') && !name.starts_with("huge") && !name.starts_with('/');
        [if is_param { "--param" } else { "--set" }, setting]
    };
    settings.iter().flat_map(option).collect()
}

/// A command in the environment that `settings` make up; in the host as it is without any.
fn with(host: &FakeHost, settings: &[&str], command: &[&str]) -> Command {
    let environment = match settings.is_empty() {
        true => vec!["host"],
        false => options(settings),
    };
    host.program(&[&["with"], &environment[..], &["--"], command].concat())
}

fn run_with(host: &FakeHost, settings: &[&str], command: &[&str]) -> Ran {
    Ran::of(with(host, settings, command).output().unwrap())
}

/// What would be done to a host for `settings`.
fn plan(host: &FakeHost, settings: &[&str]) -> String {
    let ran = host.run(&[&["environments"], &options(settings)[..]].concat());
    let here = lines_with(&ran.stdout, "  here     ");
    let here = here.first().unwrap_or_else(|| panic!("{}", ran.stderr));
    here.trim_start_matches("  here     ").to_owned()
}

/// Enters, finds `values` in files or parameters, leaves, and finds everything as it was. Answers what was said.
fn there_and_back(host: &FakeHost, settings: &[&str], values: &[(&str, &str)]) -> String {
    let before = host.state();
    let files: Vec<String> = values.iter().map(|(name, _)| file(host, name)).collect();
    let files = files.iter().map(String::as_str);
    let cat: Vec<&str> = std::iter::once("cat").chain(files).collect();
    let ran = run_with(host, settings, &cat);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected: Vec<&str> = values.iter().map(|(_, value)| *value).collect();
    let found: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(found, expected, "{}", ran.stderr);
    assert_eq!(host.state(), before);
    assert!(host.is_left_alone());
    ran.stderr
}

fn file(host: &FakeHost, name: &str) -> String {
    let path = match name.split_once('.') {
        Some((module, name)) => format!("sys/module/{module}/parameters/{name}"),
        None => name.to_owned(),
    };
    host.path(&path).display().to_string()
}

/// What is said where it is not done, and nothing is touched.
fn refused(host: &FakeHost, settings: &[&str]) -> String {
    let before = host.state();
    let ran = run_with(host, settings, &["true"]);
    let state = (ran.code, host.state());
    assert_eq!(state, (Some(2), before), "{}", ran.stderr);
    let error = lines_with(&ran.stderr, "error: ");
    error[0].trim_start_matches("error: ").to_owned()
}

#[test]
fn tdp_off_reloads_the_vendor_module_alone_and_derived_values_are_not_pinned() {
    let host = FakeHost::amd();
    let expected = "reload kvm_amd with kvm_amd.npt=N (now Y)";
    assert_eq!(plan(&host, &["tdp=off"]), expected);
    let values = [("kvm_amd.npt", "N"), ("kvm.tdp_mmu", "N")];
    let said = there_and_back(&host, &["tdp=off"], &values);
    assert!(said.contains("kvm.tdp_mmu reads N with it"), "{said}");
    let expected = [
        "rmmod kvm_amd",
        "modprobe kvm_amd",
        "rmmod kvm_amd",
        "modprobe kvm_amd npt=N",
        "rmmod kvm_amd",
        "modprobe kvm_amd",
    ];
    assert_eq!(host.calls(), expected);
}

#[test]
fn the_same_feature_is_another_parameter_on_intel_and_always_on_elsewhere() {
    let host = FakeHost::intel();
    let values = [
        ("kvm_intel.ept", "N"),
        ("kvm_intel.unrestricted_guest", "N"),
        ("kvm_intel.vmentry_l1d_flush", "not required"),
    ];
    let said = there_and_back(&host, &["tdp=off"], &values);
    let note = "kvm_intel.unrestricted_guest reads N with it";
    assert!(said.contains(note), "{said}");
    let arm = FakeHost::arm();
    // The command line claims what only KVM knows.
    arm.put("proc/cmdline", "quiet kvm-arm.mode=nested\n");
    for (setting, expected) in [
        ("tdp=off", "impossible here: `tdp` is always on with Arm"),
        ("tdp=on", NOTHING),
        ("apicv=off", "impossible here: Arm has no `apicv`"),
        (
            "nested=on",
            "impossible here: `nested` takes a CPU that has it, and a kernel booted with kvm-arm.mode=nested",
        ),
        ("nested=off", NOTHING),
    ] {
        assert_eq!(plan(&arm, &[setting]), expected);
    }
}

#[test]
fn on_s390_kvm_itself_is_loaded_anew_with_the_type_s_own_spelling() {
    let values = [("kvm.nested", "1"), ("kvm.halt_poll_ns", "0")];
    let settings = ["nested=on", "halt_polling=off"];
    there_and_back(&FakeHost::s390(), &settings, &values);
}

#[test]
fn what_can_be_written_is_written_without_a_reload_even_where_kvm_is_built_in() {
    let host = FakeHost::arm();
    there_and_back(&host, &["halt_polling=7"], &[("kvm.halt_poll_ns", "7")]);
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn kvm_s_own_parameters_take_both_modules_and_what_was_written_by_hand_survives() {
    let host = FakeHost::amd();
    host.put("sys/module/kvm/parameters/halt_poll_ns", "12345\n");
    let values = [("kvm.tdp_mmu", "N"), ("kvm.halt_poll_ns", "12345")];
    there_and_back(&host, &["tdp_mmu=off"], &values);
}

#[test]
fn what_the_user_had_loaded_with_is_kept_and_modprobe_d_stays_in_force() {
    let host = FakeHost::amd();
    host.unload("kvm_amd");
    host.put("etc/modprobe.d/kvm.conf", "options kvm_amd vls=0\n");
    host.load("kvm_amd", &["nested=0"]);
    let values = [("kvm_amd.vls", "0"), ("kvm_amd.nested", "0")];
    there_and_back(&host, &["tdp=off"], &values);
    let calls = host.calls();
    let entered = "modprobe kvm_amd nested=0 npt=N".to_owned();
    assert!(calls.contains(&entered), "{calls:?}");
    assert_eq!(calls.last().unwrap(), "modprobe kvm_amd nested=0");
    let is_needed = |call: &String| !call.contains("vls") && !call.contains("tdp_mmu");
    assert!(calls.iter().all(is_needed), "{calls:?}");
}

#[test]
fn a_user_s_own_shadow_paging_comes_back_without_what_follows_from_it() {
    let host = FakeHost::amd();
    host.unload("kvm_amd");
    host.load("kvm_amd", &["npt=0"]);
    there_and_back(&host, &["nested=off"], &[("kvm_amd.npt", "N")]);
    assert_eq!(host.calls().last().unwrap(), "modprobe kvm_amd npt=N");
}

#[test]
fn nx_huge_pages_never_is_set_and_undone_by_a_reload() {
    let host = FakeHost::amd();
    let values = [("kvm.nx_huge_pages", "never")];
    there_and_back(&host, &["nx_huge_pages=never"], &values);
    let calls = host.calls();
    let loaded = "modprobe kvm nx_huge_pages=never".to_owned();
    assert!(calls.contains(&loaded), "{calls:?}");
}

#[test]
fn modules_that_were_not_loaded_are_loaded_and_unloaded_again() {
    let host = FakeHost::amd();
    for module in ["kvm_amd", "kvm", "irqbypass"] {
        host.unload(module);
    }
    let expected = "load kvm and kvm_amd with kvm_amd.nested=0 (now nothing yet)";
    assert_eq!(plan(&host, &["nested=off"]), expected);
    there_and_back(&host, &["nested=off"], &[("kvm_amd.nested", "0")]);
    assert_eq!(host.get("proc/modules"), "loop 4096 0 - Live 0x0");
    let reason = refused(&host, &["kvm_amd.neste=0"]);
    assert!(reason.ends_with("did you mean `nested`?"), "{reason}");
}

#[test]
fn what_the_vendor_module_leaves_in_kvm_takes_kvm_s_own_reload() {
    let host = FakeHost::amd();
    host.unload("kvm_amd");
    there_and_back(&host, &["tdp=off"], &[("kvm.tdp_mmu", "N")]);
    let expected = [
        "modprobe kvm_amd npt=0",
        "rmmod kvm_amd",
        "rmmod kvm",
        "modprobe kvm",
    ];
    assert_eq!(host.calls(), expected);
}

#[test]
fn the_device_keeps_its_mode_and_owner() {
    let host = FakeHost::amd();
    let device = host.path("dev/kvm");
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).unwrap();
    let owner = fs::metadata(&device).unwrap().uid();
    let path = device.display().to_string();
    let ran = run_with(&host, &["tdp=off"], &["stat", "-c", "%a %u", &path]);
    assert_eq!(ran.stdout, format!("666 {owner}\n"), "{}", ran.stderr);
    assert_eq!(fs::metadata(device).unwrap().mode() & 0o777, 0o666);
}

#[test]
fn hugepages_sysctls_and_sysfs_values_are_set_and_put_back() {
    let host = FakeHost::arm();
    let text = "hugepages = { \"2M\" = { node1 = 8 } }\n\
        sysctls = { \"kernel.numa_balancing\" = 0 }\n\
        sysfs = { \"/sys/kernel/mm/transparent_hugepage/enabled\" = \"always\" }\n";
    host.put("e.toml", text);
    // The kernel would show the word in brackets.
    host.put("sys/kernel/mm/transparent_hugepage/enabled", "madvise\n");
    let of_node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
    let config = host.path("e.toml").display().to_string();
    let [pages, balancing] = [of_node, "proc/sys/kernel/numa_balancing"];
    let before = host.state();
    let [first, second] = [pages, balancing].map(|name| file(&host, name));
    let args = [
        "with", "--config", &config, "e", "--", "cat", &first, &second,
    ];
    let ran = host.run(&args);
    assert_eq!(ran.stdout, "80", "{}", ran.stderr);
    assert_eq!(host.state(), before);
    // The same, made up on the command line.
    let settings = [
        "hugepages.2M.node1=8",
        "/proc/sys/kernel/numa_balancing=0",
        "/sys/kernel/mm/transparent_hugepage/enabled=always",
    ];
    let show = ["sh", "-c", &format!("cat {first} {second}")];
    assert_eq!(run_with(&host, &settings, &show).stdout, "80");
    assert_eq!(host.state(), before);
    assert_eq!(plan(&host, &["hugepages.2M=4"]), NOTHING);
}

#[test]
fn what_cannot_be_done_is_refused_with_a_sentence_and_nothing_is_touched() {
    let host = FakeHost::amd();
    host.put("proc/meminfo", "MemTotal:  4194304 kB\n");
    for (setting, expected) in [
        (
            "kvm_amd.neste=0",
            "kvm_amd has no parameter `neste`; did you mean `nested`?",
        ),
        (
            "loop.max_loop=1",
            "loop is no module of KVM's; only those can be set",
        ),
        (
            "hugepages.1G=1",
            "this host has no hugepages of 1G (/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages)",
        ),
        (
            "hugepages.2M=2049",
            "this host has less memory than 2049 hugepages of 2M",
        ),
        (
            "/proc/sys/kernel/nothing=1",
            "read /proc/sys/kernel/nothing: No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(refused(&host, &[setting]), expected);
    }
    let impossible = plan(&host, &["kvm_intel.ept=0"]);
    let expected = "impossible here: kvm_intel is not a module of this host (AMD, kvm loaded";
    assert!(impossible.starts_with(expected), "{impossible}");

    host.process(4711, "qemu-system-x86_64 -enable-kvm", "anon_inode:kvm-vm");
    host.put("sys/module/kvm_amd/refcnt", "1\n");
    let expected = "kvm_amd is in use by pid 4711 (qemu-system-x86_64 -enable-kvm): end it first";
    assert_eq!(refused(&host, &["tdp=off"]), expected);
    host.put("sys/module/kvm_amd/refcnt", "0\n");

    host.put("lib/kvm_amd/install", "install /bin/false\n");
    let expected =
        "modprobe.d has it run `/bin/false` instead of loading kvm_amd: take that out first";
    assert_eq!(refused(&host, &["tdp=off"]), expected);
}

#[test]
fn what_a_parameter_takes_is_for_the_kernel_to_say() {
    let host = FakeHost::amd();
    let before = host.state();
    host.behave(
        "case $* in *avic=auto*) set -- kvm_amd avic=1 ;; *avic=maybe*) echo bad >&2; exit 1 ;; esac",
    );
    let ran = run_with(&host, &["kvm_amd.avic=auto"], &["true"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let note = "kvm_amd.avic was set to auto and reads Y";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert_eq!(host.state(), before);
    let expected = "modprobe kvm_amd avic=maybe: bad; everything is as it was";
    assert_eq!(refused(&host, &["kvm_amd.avic=maybe"]), expected);
}

#[test]
fn a_built_in_kvm_is_refused_with_what_to_boot_with() {
    let host = FakeHost::amd();
    host.built_in("kvm_amd");
    host.built_in("kvm");
    let expected = "kvm_amd cannot be unloaded, it is built into this kernel: boot with kvm_amd.npt=N, or use a kernel with kvm_amd as a module";
    assert_eq!(refused(&host, &["tdp=off"]), expected);
}

#[test]
fn an_unknown_vendor_module_makes_features_impossible() {
    let host = FakeHost::new("vendor_id\t: AuthenticAMD\nflags\t\t: fpu\n");
    let lacks = plan(&host, &["tdp=off"]);
    let expected = "impossible here: this CPU shows no svm";
    assert!(lacks.starts_with(expected), "{lacks}");
    host.module("kvm", &[], &[("tdp_mmu", "bool", "N", 0o444)]);
    host.module("kvm_other", &["kvm"], &[("knob", "bool", "N", 0o444)]);
    host.load("kvm_other", &[]);
    host.built_in("kvm_other");
    host.built_in("kvm");
    let shown = host.run(&["environments"]).stdout;
    let expected = "this host: an unknown platform, kvm built in, kvm_other built in\n";
    assert!(shown.starts_with(expected), "{shown}");
    let expected = "impossible here: `tdp` is not known for the vendor module kvm_other";
    assert_eq!(plan(&host, &["tdp=off"]), expected);
    assert_eq!(plan(&host, &["tdp_mmu=off"]), NOTHING);
}

#[test]
fn a_value_that_does_not_read_back_is_an_error_with_the_kernel_s_own_line_and_all_is_put_back() {
    let host = FakeHost::amd();
    host.behave("case $* in *nested=0*) echo '4,1,1,-;kvm_amd: nested is not for you' >>\"$root/dev/kmsg\"; set -- --first-time kvm_amd ;; esac");
    let expected = "kvm_amd.nested was set to 0 and reads 1; the kernel says: `kvm_amd: nested is not for you`; everything is as it was";
    let before = host.state();
    let ran = run_with(&host, &["nested=off"], &["true"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
}

#[test]
fn a_feature_that_the_kernel_does_not_turn_on_is_impossible_here() {
    let host = FakeHost::amd();
    host.behave("case $* in *avic=Y*) set -- --first-time kvm_amd ;; esac");
    let reason = refused(&host, &["apicv=on"]);
    let expected = "the kernel does not turn `apicv` on, which this CPU may lack: ";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn a_failed_load_that_leaves_kvm_without_its_vendor_module_is_put_back() {
    let host = FakeHost::amd();
    host.behave("case $* in *npt=N*) echo 'ERROR: could not insert' >&2; exit 1 ;; esac");
    let expected = "modprobe kvm_amd npt=N: ERROR: could not insert; everything is as it was";
    assert_eq!(refused(&host, &["tdp=off"]), expected);
}

#[test]
fn a_module_that_somebody_else_loads_first_is_loaded_again_with_its_arguments() {
    let host = FakeHost::amd();
    // As udev does.
    host.behave(
        "case $* in *npt=N*) [ -e \"$root/udev\" ] || { touch \"$root/udev\"; \"$0\" kvm_amd; } ;; esac",
    );
    there_and_back(&host, &["tdp=off"], &[("kvm_amd.npt", "N")]);
}

#[test]
fn what_cannot_be_restored_is_said_with_the_command_and_the_journal_stays() {
    let host = FakeHost::amd();
    let before = host.state();
    let behave = host.path("behave").display().to_string();
    let script = format!("echo \"echo FATAL >&2; exit 1\" > {behave}");
    let ran = run_with(&host, &["tdp=off"], &["sh", "-c", &script]);
    assert_eq!(ran.code, Some(2));
    let error = lines_with(&ran.stderr, "error: the host could not be restored: ");
    for part in [
        "modprobe kvm_amd: FATAL; ",
        "kvm_amd.npt was Y and reads nothing; ",
        "kvm.tdp_mmu was Y and reads N; ",
        "kvm_amd was loaded and is not; ",
        "to do it by hand: rmmod kvm_amd; modprobe kvm_amd",
    ] {
        assert!(error[0].contains(part), "{part}: {}", ran.stderr);
    }
    assert!(host.has_journal());

    fs::remove_file(behave).unwrap();
    let restored = host.run(&["restore"]).stdout;
    assert_eq!(restored, "restored: this host was left in tdp_off\n");
    assert_eq!(host.state(), before);
    assert_eq!(host.run(&["restore"]).stdout, RESTORED);
    assert!(host.is_left_alone());
}

#[test]
fn a_file_that_cannot_be_put_back_is_said_with_the_command_and_the_journal_stays() {
    let host = FakeHost::arm();
    let path = "/proc/sys/kernel/numa_balancing";
    let there = file(&host, &path[1..]);
    let script = format!("mv {there} {there}.gone");
    let ran = run_with(&host, &[&format!("{path}=0")], &["sh", "-c", &script]);
    let says = format!("{path} was 1 and reads nothing; to do it by hand: echo 1 > {path}\n");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.ends_with(&says), "{}", ran.stderr);
    fs::rename(format!("{there}.gone"), &there).unwrap();
    assert!(host.run(&["restore"]).stdout.starts_with("restored: "));
    assert_eq!(host.get(&path[1..]), "1");
    assert!(host.is_left_alone());
}

#[test]
fn a_journal_that_is_damaged_or_newer_is_shown_and_nothing_is_touched() {
    let host = FakeHost::amd();
    for (text, why) in [
        ("{\"vers", "is damaged (EOF"),
        (
            "{\"version\": 99, \"x\": 1}",
            "is from another kvm-tests (version 99)",
        ),
    ] {
        host.put("run/kvm-tests/journal.json", text);
        for settings in [&["tdp=off"][..], &[]] {
            let reason = refused(&host, settings);
            assert!(reason.contains(why), "{reason}");
            assert!(reason.contains("not guessed at"), "{reason}");
        }
        assert_eq!(host.get("run/kvm-tests/journal.json"), text);
    }
}

#[test]
fn a_journal_of_another_boot_is_dropped() {
    let host = FakeHost::amd();
    killed_in(&host, &["halt_polling=off"]);
    host.put("proc/sys/kernel/random/boot_id", "another-boot\n");
    assert_eq!(host.run(&["restore"]).stdout, RESTORED);
    assert_eq!(host.parameter("kvm.halt_poll_ns"), "0");
    assert!(!host.has_journal());
}

#[test]
fn restore_check_says_what_is_not_as_it_was_and_touches_nothing() {
    let host = FakeHost::amd();
    let check = || {
        host.calls();
        let state = host.state();
        let ran = host.run(&["restore", "--check"]);
        assert_eq!((host.state(), host.calls()), (state, Vec::new()));
        (ran.code, ran.stdout)
    };
    let is_as_it_was = (Some(0), "this host is as it was\n".to_owned());
    assert_eq!(check(), is_as_it_was);

    let thp = "/sys/kernel/mm/transparent_hugepage/enabled";
    let settings = ["tdp=off", "huge_pages=never"];
    let pid = killed_in(&host, &settings);
    let (code, says) = check();
    assert_eq!(code, Some(1));
    for part in [
        format!("pid {pid} changed this host into "),
        "kvm_amd.npt was Y and reads N; ".to_owned(),
        format!("{thp} was madvise and reads never; "),
        "to put it back: kvm-tests restore\n".to_owned(),
    ] {
        assert!(says.contains(&part), "{part}: {says}");
    }

    let boot = host.get("proc/sys/kernel/random/boot_id");
    host.put("proc/sys/kernel/random/boot_id", "another-boot\n");
    assert_eq!((check(), host.has_journal()), (is_as_it_was.clone(), true));
    host.put("proc/sys/kernel/random/boot_id", &format!("{boot}\n"));
    host.run(&["restore"]);
    assert_eq!((check(), host.is_left_alone()), (is_as_it_was, true));
    host.put("run/kvm-tests/journal.json", "{\"vers");
    assert_eq!(check().0, Some(2));
}

/// A script that makes the file `NAME.in` and goes on until the file `NAME` appears, or the host is gone.
fn until(host: &FakeHost, name: &str) -> String {
    let go = host.path(name).display().to_string();
    format!("touch {go}.in; while [ -e {go}.in ] && ! [ -e {go} ]; do sleep 0.01; done")
}

/// A process that stays in an environment until the file `name` appears.
fn stay(host: &FakeHost, settings: &[&str], name: &str) -> Child {
    let mut command = with(host, settings, &["sh", "-c", &until(host, name)]);
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for(&host.path(&format!("{name}.in")));
    child
}

fn go(host: &FakeHost, name: &str, child: &mut Child) {
    host.put(name, "");
    assert!(child.wait().unwrap().success());
}

fn killed_in(host: &FakeHost, settings: &[&str]) -> u32 {
    let mut killed = stay(host, settings, "go");
    killed.kill().unwrap();
    killed.wait().unwrap();
    host.put("go", "");
    killed.id()
}

/// Waits until a file is there.
fn wait_for(path: &Path) {
    while !path.exists() {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a program and waits for the line on its standard error that begins with `waiting`.
fn start_waiting(mut command: Command) -> (Child, String) {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.starts_with("waiting")));
    thread::spawn(move || lines.for_each(drop));
    (child, line.unwrap())
}

#[test]
fn those_who_want_the_same_share_it_and_the_last_one_restores() {
    let host = FakeHost::amd();
    let before = host.state();
    let mut first = stay(&host, &["tdp=off"], "first");
    host.calls();
    let mut second = stay(&host, &["tdp=false"], "second");
    go(&host, "first", &mut first);
    assert_eq!(host.calls(), [""; 0]);
    assert_eq!(host.parameter("kvm_amd.npt"), "N");
    go(&host, "second", &mut second);
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
}

#[test]
fn another_process_waits_for_those_in_another_environment_and_is_told_who_they_are() {
    let host = FakeHost::amd();
    let mut first = stay(&host, &["tdp=off"], "go");
    let (mut second, said) = start_waiting(with(&host, &["nested=off"], &["true"]));
    let who = format!("waiting for pid {} (", first.id());
    assert!(said.starts_with(&who), "{said}");
    assert!(said.contains(", started at 20"), "{said}");
    assert!(said.ends_with("which needs this host at tdp=off"), "{said}");
    go(&host, "go", &mut first);
    assert!(second.wait().unwrap().success());
    assert!(host.is_left_alone());
}

#[test]
fn an_environment_that_is_impossible_or_there_already_waits_for_nobody() {
    let host = FakeHost::amd();
    let mut changed = stay(&host, &["tdp=off"], "changed");
    for setting in ["kvm_intel.ept=0", "kvm_amd.neste=0", "hugepages.1G=1"] {
        assert!(!refused(&host, &[setting]).contains("waiting"));
    }
    go(&host, "changed", &mut changed);
    let mut unchanged = stay(&host, &[], "unchanged");
    let ran = run_with(&host, &["tdp=on"], &["true"]);
    assert_eq!(ran.code, Some(0));
    assert!(!ran.stderr.contains("waiting"), "{}", ran.stderr);
    go(&host, "unchanged", &mut unchanged);
}

#[test]
fn inside_an_environment_the_host_as_it_is_is_that_one_and_another_is_refused() {
    let host = FakeHost::amd();
    let npt = file(&host, "kvm_amd.npt");
    let run = |settings: &[&str]| {
        let inner = with(&host, settings, &["cat", &npt]);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let inner: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
        run_with(&host, &["tdp=off"], &inner)
    };
    assert_eq!(run(&[]).stdout, "N\n");
    assert_eq!(run(&["tdp=off"]).stdout, "N\n");
    let refused = run(&["nested=off"]);
    assert_eq!(refused.code, Some(2));
    let says = "error: this runs inside pid ";
    assert!(refused.stderr.contains(says), "{}", refused.stderr);
    assert!(host.is_left_alone());
}

/// `command` as a user who may change nothing of `host`; `None` where the tests run as one themselves.
fn as_user(host: &FakeHost, command: &Command) -> Option<Command> {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    // The build directory may be out of reach.
    let copy = host.path("bin/kvm-tests");
    let mut install = Command::new("install");
    let installed = install.arg(command.get_program()).arg(&copy).status();
    assert!(installed.unwrap().success());
    fs::set_permissions(host.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    // Whoever may open the device may stand in root's queue.
    let device = host.path("dev/kvm");
    chown(&device, None, Some(NOBODY)).unwrap();
    fs::set_permissions(device, fs::Permissions::from_mode(0o660)).unwrap();
    let place = host.path("ours");
    fs::create_dir_all(&place).unwrap();
    chown(place, Some(NOBODY), None).unwrap();
    let mut user = Command::new("setpriv");
    user.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    user.arg(copy).args(command.get_args()).current_dir("/");
    let variables = command.get_envs();
    user.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    Some(user)
}

#[test]
fn a_user_may_enter_what_changes_nothing() {
    let host = FakeHost::amd();
    for (setting, code, says) in [
        ("tdp=on", 0, ""),
        (
            "tdp=off",
            2,
            "error: only root can do that: run this with sudo",
        ),
    ] {
        let Some(mut user) = as_user(&host, &with(&host, &[setting], &["true"])) else {
            return;
        };
        let ran = Ran::of(user.output().unwrap());
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    }
}

#[test]
fn the_host_is_not_changed_under_a_user_who_needs_it_as_it_is() {
    let host = FakeHost::amd();
    let script = until(&host, "ours/go");
    let Some(mut user) = as_user(&host, &with(&host, &[], &["sh", "-c", &script])) else {
        return;
    };
    // Root makes the queue in which both can stand, and is no longer in it when the user is.
    let mut root = stay(&host, &[], "root");
    let mut user = user.stderr(Stdio::null()).spawn().unwrap();
    wait_for(&host.path("ours/go.in"));
    go(&host, "root", &mut root);
    let (mut changing, said) = start_waiting(with(&host, &["tdp=off"], &["true"]));
    let who = format!("waiting for pid {} (", user.id());
    assert!(said.starts_with(&who), "{said}");
    assert!(said.ends_with("which needs this host as it is"), "{said}");
    assert_eq!(host.parameter("kvm_amd.npt"), "Y");
    go(&host, "ours/go", &mut user);
    assert!(changing.wait().unwrap().success());
    assert!(host.calls().iter().any(|call| call.contains("npt=N")));
}

#[test]
fn a_user_who_needs_the_host_as_it_is_waits_until_it_is_again() {
    let host = FakeHost::amd();
    let npt = file(&host, "kvm_amd.npt");
    let Some(look) = as_user(&host, &with(&host, &[], &["cat", &npt])) else {
        return;
    };
    let mut changed = stay(&host, &["tdp=off"], "go");
    let (user, said) = start_waiting(look);
    let who = format!("pid {} (", changed.id());
    assert!(said.contains(&who), "{said}");
    go(&host, "go", &mut changed);
    assert_eq!(user.wait_with_output().unwrap().stdout, b"Y\n");
}

#[test]
fn a_user_does_not_run_in_what_a_killed_run_has_left() {
    let host = FakeHost::amd();
    killed_in(&host, &["tdp=off"]);
    let Some(mut user) = as_user(&host, &with(&host, &[], &["true"])) else {
        return;
    };
    let ran = Ran::of(user.output().unwrap());
    assert_eq!(ran.code, Some(2));
    let says = "error: a killed run has left this host changed: as root, run kvm-tests restore";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
}

#[test]
fn after_sigkill_in_an_environment_the_next_start_restores() {
    let host = FakeHost::amd();
    let before = host.state();
    let pid = killed_in(&host, &["tdp=off"]);
    let left = (host.parameter("kvm_amd.npt"), host.has_journal());
    assert_eq!(left, ("N".to_owned(), true));
    let ran = run_with(&host, &[], &["true"]);
    let says = format!("restored the host, which a killed run (pid {pid}) left in tdp_off\n");
    assert!(ran.stderr.contains(&says), "{}", ran.stderr);
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
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
        let mut killed = with(&host, &["tdp=off"], &["true"]);
        let mut killed = killed.stderr(Stdio::null()).spawn().unwrap();
        wait_for(&host.path("caught"));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let orphan = Pid::from_raw(host.get("caught").parse().unwrap()).unwrap();
        kill_process(orphan, Signal::KILL).unwrap();
        for file in ["caught", "behave"] {
            fs::remove_file(host.path(file)).unwrap();
        }
        assert!(!host.path("sys/module/kvm_amd").exists());
        let restored = host.run(&["restore"]).stdout;
        assert_eq!(restored, "restored: this host was left in tdp_off\n");
        assert_eq!(host.state(), before);
        assert!(host.is_left_alone());
    }
}

#[test]
fn a_signal_ends_the_command_of_with_and_the_host_is_put_back() {
    let host = FakeHost::amd();
    let before = host.state();
    let mut stays = stay(&host, &["tdp=off"], "go");
    kill_process(Pid::from_child(&stays), Signal::TERM).unwrap();
    assert_eq!(stays.wait().unwrap().code(), Some(143));
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
}

/// The plans of the shipped environments, by their names.
fn plans(host: &FakeHost) -> Vec<String> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kvm-tests/environments");
    let directory = directory.display().to_string();
    let shown = host.run(&["environments", "--config", &directory]).stdout;
    let (mut plans, mut name) = (Vec::new(), "");
    for line in shown.lines() {
        if let Some(here) = line.strip_prefix("  here     ") {
            plans.push(format!("{name}: {here}"));
        } else if !line.starts_with(' ') {
            name = line.split(':').next().unwrap();
        }
    }
    assert_eq!(host.calls(), [""; 0]);
    plans
}

#[test]
fn every_shipped_environment_is_a_plan_on_amd_and_on_intel() {
    let everywhere = [
        "eager_page_split_off: write kvm.eager_page_split=N (now Y)",
        "emulation_prefix: write kvm.force_emulation_prefix=1 (now 0)",
        "halt_polling_off: write kvm.halt_poll_ns=0 (now 200000)",
        "hugetlb: write /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages: 4 becomes at least 1152",
        "hugetlb_1g: impossible here: this host has no hugepages of 1G (/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages)",
        "no_huge_pages: write /sys/kernel/mm/transparent_hugepage/enabled=never (now madvise)",
        "nx_huge_pages_forced: write kvm.nx_huge_pages=force (now N)",
    ];
    let of_amd = [
        "allow_smaller_maxphyaddr: impossible here: AMD has no `smaller_maxphyaddr`",
        "apicv_off: nothing to do: this host is that way already",
        "ept_ad_off: impossible here: AMD has no `ept_ad`",
        "ipiv_off: impossible here: kvm_amd has no parameter `enable_ipiv`; known here: `avic`, `nested`, `npt`, `vls`",
        "mediated_pmu: impossible here: kvm_amd has no parameter `enable_mediated_pmu`; known here: `avic`, `nested`, `npt`, `vls`",
        "nested_off: reload kvm_amd with kvm_amd.nested=0 (now 1)",
        "pml_off: impossible here: AMD has no `pml`",
        "pmu_off: reload kvm and kvm_amd with kvm.enable_pmu=N (now Y)",
        "preemption_timer_off: impossible here: AMD has no `preemption_timer`",
        "shadow_mmu: reload kvm_amd with kvm_amd.npt=N (now Y)",
        "shadow_mmu_no_nested: reload kvm_amd with kvm_amd.nested=0 (now 1), kvm_amd.npt=N (now Y)",
        "shadow_vmcs_off: impossible here: AMD has no `shadow_vmcs`",
        "tdp_mmu_off: reload kvm and kvm_amd with kvm.tdp_mmu=N (now Y)",
        "unrestricted_guest_off: impossible here: `unrestricted_guest` is always on with AMD",
        "virt_at_load_off: reload kvm and kvm_amd with kvm.enable_virt_at_load=N (now Y)",
        "vmware_backdoor: reload kvm and kvm_amd with kvm.enable_vmware_backdoor=Y (now N)",
    ];
    let of_intel = [
        "allow_smaller_maxphyaddr: reload kvm_intel with kvm_intel.allow_smaller_maxphyaddr=Y (now N)",
        "apicv_off: reload kvm_intel with kvm_intel.enable_apicv=N (now Y)",
        "ept_ad_off: reload kvm_intel with kvm_intel.eptad=N (now Y)",
        "ipiv_off: reload kvm_intel with kvm_intel.enable_ipiv=N (now Y)",
        "mediated_pmu: reload kvm_intel with kvm_intel.enable_mediated_pmu=Y (now N)",
        "nested_off: reload kvm_intel with kvm_intel.nested=N (now Y)",
        "pml_off: reload kvm_intel with kvm_intel.pml=N (now Y)",
        "pmu_off: reload kvm and kvm_intel with kvm.enable_pmu=N (now Y)",
        "preemption_timer_off: reload kvm_intel with kvm_intel.preemption_timer=N (now Y)",
        "shadow_mmu: reload kvm_intel with kvm_intel.ept=N (now Y)",
        "shadow_mmu_no_nested: reload kvm_intel with kvm_intel.nested=N (now Y), kvm_intel.ept=N (now Y)",
        "shadow_vmcs_off: reload kvm_intel with kvm_intel.enable_shadow_vmcs=N (now Y)",
        "tdp_mmu_off: reload kvm and kvm_intel with kvm.tdp_mmu=N (now Y)",
        "unrestricted_guest_off: reload kvm_intel with kvm_intel.unrestricted_guest=N (now Y)",
        "virt_at_load_off: reload kvm and kvm_intel with kvm.enable_virt_at_load=N (now Y)",
        "vmware_backdoor: reload kvm and kvm_intel with kvm.enable_vmware_backdoor=Y (now N)",
    ];
    for (host, own) in [(FakeHost::amd(), of_amd), (FakeHost::intel(), of_intel)] {
        let mut expected: Vec<&str> = everywhere.iter().chain(&own).copied().collect();
        expected.sort_unstable();
        assert_eq!(plans(&host), expected);
    }
}
