//! Modules of the kernel: what is known of them, and their loading by kmod's programs, of which only that is believed
//! which can be read afterwards.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use duct::cmd;
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::kernel_log::{Kmsg, Record};
use crate::model::host::Root;
use crate::model::problem::excerpt;
use crate::model::text::one_line;

/// How long a module may stay in use by something that is about to end: the kernel drops a VM's last references a
/// moment after its process has gone.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(3);

/// How often it is looked whether it is still in use.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// How often loading is tried when somebody else, such as udev, has loaded a module first.
const ATTEMPTS: usize = 3;

/// How long a program may take before it is killed and counts as failed.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a killed program may take to be gone. One that is stuck in the kernel is left behind.
const END: Duration = Duration::from_secs(1);

/// Values of parameters that are called `MODULE.PARAMETER`.
pub(super) type Parameters = BTreeMap<String, String>;

/// A module of the kernel.
#[derive(Debug, Clone)]
pub(super) struct Module {
    /// Its name, with underscores (`kvm_intel`).
    pub(super) name: String,
    /// Whether it is there, and how.
    pub(super) presence: Presence,
    /// The loaded modules that use it.
    pub(super) used_by: Vec<String>,
}

/// Whether a module is there, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is loaded, and can be unloaded once nothing uses it.
    Loaded {
        /// How many uses of it there are, those by other modules included.
        uses: usize,
    },
    /// It is a part of the kernel itself.
    BuiltIn,
    /// It could be loaded.
    Available,
    /// This kernel has no such module.
    Absent,
}

impl Module {
    /// Reads what is known of a module, changing nothing.
    pub(super) fn probe(root: &Root, name: &str) -> Self {
        let mut module = Self::of_sysfs(root, name);
        if !module.is_live() {
            // It fails for a module that is not there.
            let file = run("modinfo", &["-F", "filename", name]);
            module.presence = match file.as_deref().map(str::trim) {
                Ok("(builtin)") => Presence::BuiltIn,
                Ok(file) if !file.is_empty() => Presence::Available,
                _ => Presence::Absent,
            };
        }
        module
    }

    /// Reads what sysfs alone shows of a module: that takes no other program.
    pub(super) fn of_sysfs(root: &Root, name: &str) -> Self {
        let directory = format!("/sys/module/{name}");
        let uses = root.read(format!("{directory}/refcnt")).unwrap_or_default();
        let presence = match uses.parse() {
            Ok(uses) => Presence::Loaded { uses },
            // A module without a count of its uses cannot be unloaded: it is built in (`kernel/params.c`), or the
            // kernel has no CONFIG_MODULE_UNLOAD.
            Err(_) if root.path(&directory).is_dir() => Presence::BuiltIn,
            Err(_) => Presence::Absent,
        };
        Self {
            name: name.to_owned(),
            presence,
            used_by: root.names(format!("{directory}/holders")),
        }
    }

    /// Whether its code is in the kernel now.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.presence, Presence::Loaded { .. } | Presence::BuiltIn)
    }

    /// The names of its parameters. Of one that is not loaded modinfo shows them as `NAME:DESCRIPTION (TYPE)`, where the
    /// description may have several lines.
    pub(super) fn parameters(&self, root: &Root) -> Vec<String> {
        if self.is_live() {
            return root.names(format!("/sys/module/{}/parameters", self.name));
        }
        let shown = run("modinfo", &["-p", &self.name]).unwrap_or_default();
        let names = shown.lines().filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.to_owned()).collect()
    }
}

/// Loads and unloads modules.
pub(super) struct Loader<'a> {
    root: &'a Root,
    /// The kernel's log from now on: the only place where it is said why a parameter was not taken.
    log: Option<Kmsg>,
}

impl<'a> Loader<'a> {
    /// One for this host.
    pub(super) fn new(root: &'a Root) -> Self {
        let log = Kmsg::open(root).ok();
        Self { root, log }
    }

    /// What the kernel has said about KVM since this was last asked, or since modules were last loaded, as the end of a
    /// sentence.
    pub(super) fn kernel_said(&mut self) -> String {
        let mut lines = Vec::new();
        let about_kvm = |record: Record| {
            if record.text.to_ascii_lowercase().contains("kvm") {
                lines.push(format!("`{}`", one_line(&record.text)));
            }
        };
        // What can no longer be read says nothing.
        self.log.as_mut().map(|log| log.drain(about_kvm));
        lines.dedup();
        match lines.is_empty() {
            true => String::new(),
            false => format!("; the kernel says: {}", lines.join(", ")),
        }
    }

    /// Unloads modules, given in the order of their loading, and loads them again with arguments.
    ///
    /// # Errors
    /// What failed; any of the modules may be missing then.
    pub(super) fn reload(
        &mut self,
        modules: &[&str],
        arguments: &Parameters,
    ) -> Result<(), String> {
        for attempt in 1.. {
            self.unload(modules)?;
            self.kernel_said();
            let mut loading = modules.iter();
            let failed = loading.find_map(|name| Some((*name, self.load(name, arguments).err()?)));
            match failed {
                None => break,
                // Somebody else was first, without these arguments.
                Some((name, _)) if is_loaded(self.root, name) && attempt < ATTEMPTS => {}
                Some((_, problem)) => return Err(problem + &self.kernel_said()),
            }
        }
        Ok(())
    }

    fn load(&self, name: &str, arguments: &Parameters) -> Result<(), String> {
        let given = arguments_of(name, arguments);
        // `--first-time`: arguments for a module that is loaded already would be dropped without a word.
        let mut args = vec!["--first-time", name];
        args.extend(given.iter().map(String::as_str));
        let problem = match run("modprobe", &args) {
            Ok(_) if is_loaded(self.root, name) => return Ok(()),
            Ok(_) => "it says that it did, but the module is not there".to_owned(),
            Err(problem) => problem,
        };
        Err(format!("modprobe {}: {problem}", args[1..].join(" ")))
    }

    /// Unloads those of the modules that are loaded, the last first.
    ///
    /// # Errors
    /// What is in use, and by whom, or why else it failed.
    pub(super) fn unload(&mut self, modules: &[&str]) -> Result<(), String> {
        for name in modules.iter().rev() {
            let start = Instant::now();
            while let Err(problem) = self.try_to_unload(name) {
                if start.elapsed() > SETTLE_TIME {
                    return Err(problem + &self.kernel_said());
                }
                thread::sleep(AGAIN);
            }
        }
        Ok(())
    }

    fn try_to_unload(&self, name: &str) -> Result<(), String> {
        if !is_loaded(self.root, name) {
            return Ok(());
        }
        if let Some(used) = in_use(self.root, &[Module::of_sysfs(self.root, name)]) {
            return Err(used);
        }
        // rmmod rather than `modprobe -r`, which would also unload what the module stands on.
        let ended = run("rmmod", &[name]);
        if is_loaded(self.root, name) {
            let problem = ended.err().unwrap_or_default();
            return Err(format!("unload {name}: {problem}"));
        }
        Ok(())
    }
}

/// What of `arguments` is for this module, as modprobe takes it.
pub(super) fn arguments_of(module: &str, arguments: &Parameters) -> Vec<String> {
    let arguments = arguments.iter().filter_map(|(setting, value)| {
        let parameter = setting.strip_prefix(module)?.strip_prefix('.')?;
        Some(format!("{parameter}={value}"))
    });
    arguments.collect()
}

/// Whether the code of a module is in the kernel now.
pub(super) fn is_loaded(root: &Root, name: &str) -> bool {
    root.path(format!("/sys/module/{name}")).is_dir()
}

/// Why these modules cannot be unloaded now, naming those who use them.
pub(super) fn in_use(root: &Root, modules: &[Module]) -> Option<String> {
    for module in modules {
        let (name, used_by) = (&module.name, &module.used_by);
        // Only `kvm` can be used by a vendor module that is to stay or to go with it.
        let is_other = |user: &&String| modules.iter().all(|module| module.name != **user);
        let others: Vec<_> = used_by.iter().filter(is_other).cloned().collect();
        if !others.is_empty() {
            let others = others.join(", ");
            return Some(format!(
                "{name} is in use by the module {others}: unload it first (rmmod {others})"
            ));
        }
        if matches!(module.presence, Presence::Loaded { uses } if uses > used_by.len()) {
            let users = users_of_kvm(root);
            let users = match users.is_empty() {
                true => ", by no process that can be seen (one in another container?)".to_owned(),
                false => format!(" by {}", users.join(", ")),
            };
            return Some(format!("{name} is in use{users}: end it first"));
        }
    }
    None
}

/// The modules that are not loaded and that modprobe would load for one, in that order.
///
/// # Errors
/// Why it would not.
pub(super) fn needed_by(root: &Root, name: &str) -> Result<Vec<String>, String> {
    let shown = run("modprobe", &["--show-depends", name])
        .map_err(|error| format!("modprobe does not find {name}: {error}"))?;
    let mut needed = Vec::new();
    for line in shown.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            // `insmod /lib/modules/…/kvm-amd.ko.xz OPTIONS`
            (Some("insmod"), Some(path)) => {
                let file = path.rsplit('/').next().unwrap_or_default();
                let module = file.split(".ko").next().unwrap_or_default();
                needed.push(module.replace('-', "_"));
            }
            (Some("install"), _) => {
                let command = line.trim_start_matches("install ").trim().escape_debug();
                return Err(format!(
                    "modprobe.d has it run `{command}` instead of loading {name}: take that out first"
                ));
            }
            _ => {}
        }
    }
    needed.retain(|module| !is_loaded(root, module));
    Ok(needed)
}

/// The processes that keep KVM's modules in use, in words: they have /dev/kvm, a VM or a vCPU open (proc_pid_fd(5)).
fn users_of_kvm(root: &Root) -> Vec<String> {
    let names = root.names("/proc");
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let is_of_kvm = |file: &Path| {
        let target = fs::read_link(file).unwrap_or_default();
        let target = target.to_string_lossy();
        target == "/dev/kvm" || target.starts_with("anon_inode:kvm-")
    };
    let users = pids.into_iter().filter_map(|pid| {
        let directory = format!("/proc/{pid}/fd");
        let files = root.names(&directory).into_iter();
        let mut files = files.map(|file| root.path(&directory).join(file));
        files.find(|file| is_of_kvm(file))?;
        let line = fs::read(root.path(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let command = line.trim_end_matches('\0').replace('\0', " ");
        Some(format!("pid {pid} ({})", excerpt(&command)))
    });
    users.collect()
}

/// The program of this name, also where distributions keep modprobe, which the PATH of users often lacks.
///
/// # Errors
/// There is none, and what to do.
fn program(name: &str) -> Result<PathBuf, String> {
    let mut search = env::var_os("PATH").unwrap_or_default();
    search.push(":/usr/sbin:/sbin");
    let mut places = env::split_paths(&search).map(|directory| directory.join(name));
    let is_program = |path: &PathBuf| {
        path.is_absolute() && path.is_file() && access(path, Access::EXEC_OK).is_ok()
    };
    let program = places.find(is_program);
    program.ok_or_else(|| format!("there is no {name} in PATH: install kmod"))
}

/// Runs a program, and answers what it printed.
///
/// # Errors
/// Why it was not run, or what it complained about.
pub(super) fn run(name: &str, args: &[&str]) -> Result<String, String> {
    run_within(LIMIT, name, args)
}

fn run_within(limit: Duration, name: &str, args: &[&str]) -> Result<String, String> {
    let program = program(name)?;
    let failed = |error: std::io::Error| format!("run {}: {error}", program.display());
    let expression = cmd(&program, args).env("LC_ALL", "C").unchecked();
    let expression = expression.stdin_null().stdout_capture().stderr_capture();
    // In a process group of its own: a Ctrl-C at the terminal does not reach it half-way, and all of it can be killed.
    let expression = expression.before_spawn(|command| {
        command.process_group(0);
        Ok(())
    });
    let handle = expression.start().map_err(failed)?;
    let Some(output) = handle.wait_timeout(limit).map_err(failed)? else {
        // It is not yet waited for, so the number of its group cannot belong to anybody else.
        let groups = handle.pids().into_iter();
        let groups = groups.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        for group in groups {
            kill_process_group(group, Signal::KILL).ok();
        }
        handle.wait_timeout(END).ok();
        return Err(format!(
            "it hung, and was killed after {} s",
            limit.as_secs_f64()
        ));
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.trim().lines().collect();
    Err(match lines.is_empty() {
        true => format!("it ended with {}", output.status),
        false => lines.join("; ").escape_debug().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<String, String> {
        run_within(Duration::from_secs(1), "sh", &["-c", script])
    }

    #[test]
    fn a_program_answers_what_it_prints_or_complains_about() {
        assert_eq!(shell("echo out; echo err >&2"), Ok("out\n".to_owned()));
        assert_eq!(
            shell("echo one >&2; echo two >&2; false"),
            Err("one; two".to_owned())
        );
        assert_eq!(
            shell("exit 3"),
            Err("it ended with exit status: 3".to_owned())
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let hung = shell("sleep 600 & wait");
        assert_eq!(hung, Err("it hung, and was killed after 1 s".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
