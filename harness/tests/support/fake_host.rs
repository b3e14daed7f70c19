//! A directory that stands for a host: a tree of sysfs and procfs, and scripted programs of kmod that act on it as the
//! kernel would.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Ran;

use tempfile::TempDir;

pub(crate) struct FakeHost {
    directory: TempDir,
}

/// Loads a module as modprobe and the kernel do: modprobe.d and then its arguments; one that is not known is ignored;
/// a bad one fails and leaves what was loaded before. What is in `behave` happens first.
const MODPROBE: &str = r#"#!/bin/sh
root=${0%/bin/*}
modules=$root/lib sys=$root/sys/module
echo "modprobe $*" >>"$root/log"
[ ! -e "$root/behave" ] || . "$root/behave"
if [ "$1" = --show-depends ]; then
    [ -d "$modules/$2" ] || { echo "modprobe: FATAL: Module $2 not found." >&2; exit 1; }
    for module in $(cat "$modules/$2/needs") $2; do
        if [ -e "$modules/$module/install" ]; then cat "$modules/$module/install"; else
            echo "insmod /lib/modules/6.12/$module.ko.xz "; fi
    done
    exit
fi
[ "$1" = --first-time ] && shift
name=$1; shift
[ ! -d "$sys/$name" ] || { echo "modprobe: ERROR: could not insert '$name': Module already in kernel" >&2; exit 1; }
for module in $(cat "$modules/$name/needs"); do [ -d "$sys/$module" ] || "$0" "$module" || exit; done
mkdir -p "$sys/$name/parameters" "$sys/$name/holders"
cp -p "$modules/$name/parameters/"* "$sys/$name/parameters/" 2>/dev/null
echo 0 >"$sys/$name/refcnt"
for option in $(sed -n "s/^options $name //p" "$root"/etc/modprobe.d/*.conf 2>/dev/null) "$@"; do
    parameter=$sys/$name/parameters/${option%%=*} value=${option#*=}
    if [ ! -e "$parameter" ]; then
        echo "4,1,1,-;$name: unknown parameter '${option%%=*}' ignored" >>"$root/dev/kmsg"; continue; fi
    case $value in bad) rm -r "${sys:?}/$name"; echo "modprobe: ERROR: could not insert '$name': Invalid argument" >&2; exit 1 ;; esac
    case $(cat "$parameter")$value in [YN]1) value=Y ;; [YN]0) value=N ;; esac
    case $value in force) value=Y ;; off) value=N ;; esac
    echo "$value" >"$parameter"
done
for module in $(cat "$modules/$name/needs"); do
    ln -s "$sys/$name" "$sys/$module/holders/$name"
    echo $(($(cat "$sys/$module/refcnt") + 1)) >"$sys/$module/refcnt"
done
sed -i "1i $name 4096 0 - Live 0x0" "$root/proc/modules"
[ ! -e "$modules/$name/loaded" ] || (cd "$sys" && . "$modules/$name/loaded")
if [ -e "$modules/$name/device" ]; then rm -f "$root/dev/kvm"; : >"$root/dev/kvm"; chmod 600 "$root/dev/kvm"; fi
"#;

const RMMOD: &str = r#"#!/bin/sh
root=${0%/bin/*}
modules=$root/lib sys=$root/sys/module name=$1
echo "rmmod $*" >>"$root/log"
[ "$(cat "$sys/$name/refcnt")" = 0 ] || { echo "rmmod: ERROR: Module $name is in use" >&2; exit 1; }
rm -r "${sys:?}/$name"
for module in $(cat "$modules/$name/needs"); do
    rm -f "$sys/$module/holders/$name"
    echo $(($(cat "$sys/$module/refcnt") - 1)) >"$sys/$module/refcnt"
done
sed -i "/^$name /d" "$root/proc/modules"
[ ! -e "$modules/$name/device" ] || rm -f "$root/dev/kvm"
"#;

const MODINFO: &str = r#"#!/bin/sh
root=${0%/bin/*}
for name; do :; done
[ -d "$root/lib/$name" ] || { echo "modinfo: ERROR: Module $name not found." >&2; exit 1; }
case $1 in
-p) cat "$root/lib/$name/types" ;;
*) cat "$root/lib/$name/filename" ;;
esac
"#;

impl FakeHost {
    /// AMD's, with kvm_amd loaded; `tdp_mmu` follows from `npt`, as it does in the kernel.
    pub(crate) fn amd() -> Self {
        let host = Self::new("vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm npt\n");
        host.module("irqbypass", &[], &[]);
        host.kvm();
        let parameters = [
            ("npt", "bool", "Y", 0o444),
            ("nested", "int", "1", 0o444),
            ("avic", "bool", "N", 0o444),
            ("vls", "int", "1", 0o444),
        ];
        host.module("kvm_amd", &["irqbypass", "kvm"], &parameters);
        host.put(
            "lib/kvm/loaded",
            "cp kvm/parameters/tdp_mmu kvm/tdp_mmu_allowed\n",
        );
        let follows = "if grep -q Y kvm_amd/parameters/npt; then cat kvm/tdp_mmu_allowed; else echo N; fi >kvm/parameters/tdp_mmu\n";
        host.put("lib/kvm_amd/loaded", follows);
        host.put("lib/kvm_amd/device", "");
        host.load("kvm_amd", &[]);
        host
    }

    /// Intel's, with kvm_intel loaded.
    pub(crate) fn intel() -> Self {
        let host = Self::new("vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx ept\n");
        host.kvm();
        let parameters = [
            ("ept", "bool", "Y", 0o444),
            ("unrestricted_guest", "bool", "Y", 0o444),
            ("enable_apicv", "bool", "Y", 0o444),
            ("enable_ipiv", "bool", "Y", 0o444),
            ("allow_smaller_maxphyaddr", "bool", "N", 0o444),
            ("eptad", "bool", "Y", 0o444),
            ("pml", "bool", "Y", 0o444),
            ("enable_shadow_vmcs", "bool", "Y", 0o444),
            ("preemption_timer", "bool", "Y", 0o444),
            ("enable_mediated_pmu", "bool", "N", 0o444),
            ("nested", "bool", "Y", 0o444),
            ("vmentry_l1d_flush", "", "not required", 0o644),
        ];
        host.module("kvm_intel", &["kvm"], &parameters);
        host.put(
            "lib/kvm_intel/loaded",
            "grep -q Y kvm_intel/parameters/ept || echo N >kvm_intel/parameters/unrestricted_guest\n",
        );
        host.put("lib/kvm_intel/device", "");
        host.load("kvm_intel", &[]);
        host
    }

    /// Arm's: KVM is built in, and has no vendor module.
    pub(crate) fn arm() -> Self {
        let host = Self::new("processor\t: 0\nCPU implementer\t: 0x41\n");
        host.module("kvm", &[], &[("halt_poll_ns", "uint", "500000", 0o644)]);
        host.built_in("kvm");
        host
    }

    /// IBM Z's: `kvm` is all, and a module.
    pub(crate) fn s390() -> Self {
        let host = Self::new("vendor_id       : IBM/S390\n");
        host.module(
            "kvm",
            &[],
            &[
                ("nested", "int", "0", 0o444),
                ("hpage", "int", "0", 0o444),
                ("halt_poll_ns", "uint", "50000", 0o644),
            ],
        );
        host.put("lib/kvm/device", "");
        host.load("kvm", &[]);
        host
    }

    pub(crate) fn new(cpuinfo: &str) -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for (name, script) in [
            ("modprobe", MODPROBE),
            ("rmmod", RMMOD),
            ("modinfo", MODINFO),
        ] {
            host.put(&format!("bin/{name}"), script);
            fs::set_permissions(
                host.path(&format!("bin/{name}")),
                fs::Permissions::from_mode(0o755),
            )
            .unwrap();
        }
        for directory in [
            "run",
            "dev",
            "etc/modprobe.d",
            "sys/module",
            "proc/sys/kernel/random",
        ] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        host.put("proc/cpuinfo", cpuinfo);
        host.put("proc/cmdline", "quiet\n");
        // sed inserts before a line, so one has to be there.
        host.put("proc/modules", "loop 4096 0 - Live 0x0\n");
        host.put("proc/sys/kernel/random/boot_id", "this-boot\n");
        host.put("proc/sys/kernel/numa_balancing", "1\n");
        host.put("dev/kmsg", "");
        host.put(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        );
        for (node, count) in [(0, 3), (1, 1)] {
            host.put(
                &format!(
                    "sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"
                ),
                &format!("{count}\n"),
            );
        }
        host.put(
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "4\n",
        );
        host
    }

    fn kvm(&self) {
        let parameters = [
            ("tdp_mmu", "bool", "Y", 0o444),
            ("enable_pmu", "bool", "Y", 0o444),
            ("enable_virt_at_load", "bool", "Y", 0o444),
            ("enable_vmware_backdoor", "bool", "N", 0o444),
            ("halt_poll_ns", "uint", "200000", 0o644),
            ("eager_page_split", "bool", "Y", 0o644),
            ("nx_huge_pages", "bool", "N", 0o644),
            ("force_emulation_prefix", "int", "0", 0o644),
        ];
        self.module("kvm", &[], &parameters);
    }

    /// A module that can be loaded: its parameters with their types, defaults and modes.
    pub(crate) fn module(
        &self,
        name: &str,
        needs: &[&str],
        parameters: &[(&str, &str, &str, u32)],
    ) {
        let directory = format!("lib/{name}");
        self.put(&format!("{directory}/needs"), &needs.join(" "));
        self.put(
            &format!("{directory}/filename"),
            &format!("/lib/modules/6.12/{name}.ko.xz\n"),
        );
        let mut types = String::new();
        fs::create_dir_all(self.path(&format!("{directory}/parameters"))).unwrap();
        for (parameter, kind, value, mode) in parameters {
            let file = format!("{directory}/parameters/{parameter}");
            self.put(&file, &format!("{value}\n"));
            fs::set_permissions(self.path(&file), fs::Permissions::from_mode(*mode)).unwrap();
            if !kind.is_empty() {
                types.push_str(&format!("{parameter}:What it does (or not) ({kind})\n"));
            }
        }
        self.put(&format!("{directory}/types"), &types);
    }

    /// Makes a module a part of the kernel.
    pub(crate) fn built_in(&self, name: &str) {
        if !self.path(&format!("sys/module/{name}")).exists() {
            self.load(name, &[]);
        }
        fs::remove_file(self.path(&format!("sys/module/{name}/refcnt"))).unwrap();
        self.put(&format!("lib/{name}/filename"), "(builtin)\n");
    }

    /// Loads a module as the user would, and forgets that it was done.
    pub(crate) fn load(&self, name: &str, arguments: &[&str]) {
        let status = std::process::Command::new(self.path("bin/modprobe"))
            .arg(name)
            .args(arguments)
            .status();
        assert!(status.unwrap().success());
        fs::write(self.path("log"), "").unwrap();
    }

    /// Unloads a module as the user would.
    pub(crate) fn unload(&self, name: &str) {
        assert!(
            std::process::Command::new(self.path("bin/rmmod"))
                .arg(name)
                .status()
                .unwrap()
                .success()
        );
        fs::write(self.path("log"), "").unwrap();
    }

    /// What modprobe does before anything else, in its shell's words; `$*` are its arguments.
    pub(crate) fn behave(&self, script: &str) {
        self.put("behave", script);
    }

    /// A process that has something open.
    pub(crate) fn process(&self, pid: u32, command: &str, open: &str) {
        self.put(&format!("proc/{pid}/cmdline"), &command.replace(' ', "\0"));
        fs::create_dir_all(self.path(&format!("proc/{pid}/fd"))).unwrap();
        symlink(open, self.path(&format!("proc/{pid}/fd/3"))).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path(path))
            .unwrap_or_else(|_| "nothing".to_owned())
            .trim()
            .to_owned()
    }

    pub(crate) fn parameter(&self, name: &str) -> String {
        let (module, parameter) = name.split_once('.').unwrap();
        self.get(&format!("sys/module/{module}/parameters/{parameter}"))
    }

    /// Where its programs are, and those that its scripts need.
    pub(crate) fn search(&self) -> OsString {
        let mut search = self.path("bin").into_os_string();
        search.push(":/usr/bin:/bin");
        search
    }

    /// The real program on this host.
    pub(crate) fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
        command.args(args).env("KVM_TESTS_ROOT", self.path(""));
        command.env("PATH", self.search());
        command
    }

    /// Runs the real program on this host.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.program(args).output().unwrap())
    }

    /// What kmod's programs were asked to change since it was last asked.
    pub(crate) fn calls(&self) -> Vec<String> {
        let log = self.get("log");
        fs::write(self.path("log"), "").unwrap();
        let calls = log.lines().filter(|line| !line.contains("--show-depends"));
        calls
            .map(|line| line.replace("--first-time ", ""))
            .collect()
    }

    /// Everything that counts as the host's state: the text and the mode of every file of sysfs, procfs and /dev/kvm.
    pub(crate) fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for part in ["sys", "proc", "dev/kvm"] {
            collect(&self.path(part), self.directory.path(), &mut state);
        }
        state
    }

    pub(crate) fn has_journal(&self) -> bool {
        self.path("run/kvm-tests/journal.json").exists()
    }

    /// Whether nothing of the program is left on it.
    pub(crate) fn is_left_alone(&self) -> bool {
        !self.path("run/kvm-tests").exists()
    }
}

fn collect(path: &Path, root: &Path, state: &mut BTreeMap<String, String>) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    let name = path.strip_prefix(root).unwrap().display().to_string();
    if metadata.is_dir() {
        fs::read_dir(path)
            .unwrap()
            .for_each(|entry| collect(&entry.unwrap().path(), root, state));
    } else if metadata.is_file() {
        // Values are compared as the kernel shows them: what ends a line is the shell's.
        let text = fs::read_to_string(path).unwrap().trim().to_owned();
        state.insert(
            name,
            format!("{:o} {text}", metadata.permissions().mode() & 0o7777),
        );
    } else {
        state.insert(name, "a link".to_owned());
    }
}
