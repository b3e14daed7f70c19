//! Unloads and loads modules, and believes only what can be read afterwards.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::host_lock::POLL;
use super::journal::Parameters;
use super::platform::{Module, Presence};
use super::program::{run, users_of_kvm};
use super::root::Root;

/// How long a module may stay in use by something that is about to end: the kernel drops a VM's last references a
/// moment after its process has gone.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(3);

/// How often loading is tried when somebody else, such as udev, has loaded a module first.
const ATTEMPTS: usize = 3;

/// More than a record of the kernel's log can have, in bytes (CONSOLE_EXT_LOG_MAX in `include/linux/printk.h`).
const LONGEST_RECORD: usize = 8192;

/// Loads and unloads modules.
#[derive(Debug)]
pub(super) struct Loader<'a> {
    root: &'a Root,
    /// /dev/kmsg from now on: the only place where it is said why a parameter was not taken.
    log: Option<File>,
}

impl<'a> Loader<'a> {
    /// One for this host.
    pub(super) fn new(root: &'a Root) -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = open(root.path("/dev/kmsg"), flags, Mode::empty());
        let mut log = log.ok().map(File::from);
        log.take_if(|log| log.seek(SeekFrom::End(0)).is_err());
        Self { root, log }
    }

    /// What the kernel has said about KVM since this was last asked, or since modules were last loaded, as the end of a
    /// sentence.
    pub(super) fn kernel_said(&mut self) -> String {
        let mut lines = Vec::new();
        let mut record = [0; LONGEST_RECORD];
        while let Some(log) = &mut self.log {
            let text = match log.read(&mut record) {
                Ok(length @ 1..) => String::from_utf8_lossy(&record[..length]),
                // Records were overwritten before they were read.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::PIPE) => continue,
                Ok(_) | Err(_) => break,
            };
            // One read(2) is one record, `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT` (Documentation/ABI/testing/dev-kmsg).
            let texts = text.lines().filter_map(|line| line.split_once(';'));
            let about_kvm = texts.filter(|(_, text)| text.to_ascii_lowercase().contains("kvm"));
            lines.extend(about_kvm.map(|(_, text)| format!("`{}`", text.trim().escape_debug())));
        }
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
        let problem = match run(self.root, "modprobe", &args) {
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
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    fn try_to_unload(&self, name: &str) -> Result<(), String> {
        let module = Module::of_sysfs(self.root, name);
        match module.presence {
            Presence::Available | Presence::Absent => return Ok(()),
            Presence::BuiltIn => return Err(format!("{name} is built in, and cannot be unloaded")),
            Presence::Loaded { .. } => {}
        }
        if let Some(used) = in_use(self.root, slice::from_ref(&module)) {
            return Err(used);
        }
        // rmmod rather than `modprobe -r`, which would also unload what the module stands on.
        let ended = run(self.root, "rmmod", &[name]);
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

fn is_loaded(root: &Root, name: &str) -> bool {
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
    let shown = run(root, "modprobe", &["--show-depends", name])
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
