//! Places: what the command line and places.toml say of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use duct::cmd;
use serde::Deserialize;
use toml::Spanned;

use crate::embedded::Embedded;
use crate::environment::available_memory;
use crate::model::case::quoted;
use crate::model::file;
use crate::model::problem::{Problem, TextFile, hint};
use crate::options::{Guests, Options};
use crate::plan::{Discovered, PLACES_TOML};

/// What stands in a place's command for the one that is executed there.
const COMMAND: &str = "{}";
const INCOMPLETE: &str = "has no {}, where the command goes that is executed there";

/// With it, our own guest passes on no more than the plan.
const LINE: &str = "--stdin-line";

/// The key of a place in places.toml, and what one is called that has no name.
const PLACE: &str = "place";

/// The memory of a guest: the environment `hugetlb` takes more than half of it.
const GUEST_GIB: u64 = 4;

/// The time of a guest, in seconds: the cases have theirs.
const FOREVER_S: u32 = 30 * 24 * 60 * 60;

/// What is to be known of guests, and of the results of those that are emulated.
const NESTED: &str = "with the KVM of this host, which nests";
const EMULATED: &str = "emulated (TCG), as there is no nested KVM here: no timings, and what takes long may time out; on x86 \
    it is AMD's KVM alone, and nothing of VMX";

/// Where a part of a run is executed, one after another; several of one kind before they are numbered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Place {
    /// Its name, unique in the run.
    pub name: String,
    /// The shell command that executes another one there, which stands for `{}`.
    pub command: String,
    /// How many there are.
    #[serde(default = "one")]
    count: u16,
    /// The directory of the selftests there; by default the same as here.
    #[serde(default)]
    pub selftests: Option<PathBuf>,
    /// This program there; by default where it is here, else the one that the shell there finds.
    #[serde(default)]
    pub program: Option<String>,
    /// What its host is called in the names of cases; `None` where all places are of one kind.
    #[serde(skip)]
    pub label: Option<String>,
    /// What is to be known of its results.
    #[serde(skip)]
    pub about: Option<&'static str>,
}

fn one() -> u16 {
    1
}

impl Place {
    /// The shell command that executes the shell command `there` at this place.
    pub(super) fn command_for(&self, there: &str) -> String {
        self.command.replace(COMMAND, &quoted(there.as_ref()))
    }

    /// What is wrong with it, in words.
    fn check(&self) -> anyhow::Result<()> {
        let Self { name, command, .. } = self;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_name = name.chars().all(is_plain) && name.starts_with(char::is_alphanumeric);
        let name = name.escape_debug();
        ensure!(
            is_name,
            "the name `{name}` should be letters, digits, `_`, `-` and `.`"
        );
        ensure!(self.count > 0, "the place `{name}` is there 0 times");
        let is_whole = command.contains(COMMAND);
        ensure!(is_whole, "the command of the place `{name}` {INCOMPLETE}");
        Ok(())
    }
}

/// The places that `options` ask for; none means that everything runs here.
///
/// # Errors
/// What is wrong with them.
pub fn places(
    options: &Options,
    embedded: &Embedded<'_>,
    discovered: &Discovered,
) -> anyhow::Result<Vec<Place>> {
    if let Some(kernel) = &options.guests.kernel {
        let kernel = std::path::absolute(kernel).context("find the current directory")?;
        boot_from(&kernel, options)?;
        let guests = guests(&kernel, options, embedded, discovered)?;
        return Ok(numbered(&[guests]));
    }
    let local = embedded
        .local
        .map(|local| Path::new(local).join(PLACES_TOML));
    let local = local.filter(|local| local.exists() && options.has_places());
    let known = match options.places.clone().or(local) {
        Some(path) => read(&path)?,
        None => Vec::new(),
    };
    ensure!(
        !options.copy || options.has_places(),
        "--copy: there is no --place to copy this program to"
    );
    let places: Vec<_> = match options.place.as_slice() {
        [] => known,
        asked => {
            let asked = asked.iter().map(|text| of_option(text, &known));
            asked.collect::<anyhow::Result<_>>()?
        }
    };
    let is_narrow = |place: &&Place| place.command.contains(LINE) && place.program.is_none();
    if let Some(place) = places.iter().find(is_narrow).filter(|_| options.copy) {
        let why = "passes on one line of its input alone; add the program there (--add)";
        bail!("--copy: the place `{}` {why}", place.name);
    }
    Ok(numbered(&places))
}

/// `[NAME[*N]=]COMMAND`, or the NAME of one that is `known`.
fn of_option(text: &str, known: &[Place]) -> anyhow::Result<Place> {
    if let Some(place) = known.iter().find(|place| place.name == text) {
        return Ok(place.clone());
    }
    if !text.contains(COMMAND) {
        let names: Vec<_> = known.iter().map(|place| place.name.as_str()).collect();
        bail!("--place '{text}': it {INCOMPLETE}{}", hint(text, &names));
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
    let named = text
        .split_once('=')
        .filter(|(name, _)| name.chars().all(is_of_name));
    let (name, command) = named.unwrap_or((PLACE, text));
    let (name, count) = name.split_once('*').unwrap_or((name, "1"));
    let place = Place {
        name: name.to_owned(),
        command: command.to_owned(),
        count: count.parse().unwrap_or(0),
        ..Place::default()
    };
    let wrong = || format!("--place '{text}' should be NAME*N=COMMAND");
    place.check().with_context(wrong)?;
    Ok(place)
}

/// Has the kernel built, where that is wanted.
///
/// # Errors
/// It is not there.
fn boot_from(kernel: &Path, options: &Options) -> anyhow::Result<()> {
    let shown = kernel.display();
    if options.guests.build {
        let make = cmd!("make", "-C", kernel, format!("-j{}", num_cpus::get()));
        let made = make.stdin_null().stdout_to_stderr().run();
        made.with_context(|| format!("build {shown}"))?;
    }
    match options.guests.modules {
        Some(_) => ensure!(kernel.is_file(), "--kernel {shown}: there is no such image"),
        None => ensure!(
            kernel.join("vmlinux").is_file(),
            "--kernel {shown}: no kernel is built there (--build has make do that); an image needs --modules"
        ),
    }
    Ok(())
}

/// Guests that boot `kernel`, as many as this host has CPUs and memory for.
///
/// # Errors
/// There is nothing that boots it.
fn guests(
    kernel: &Path,
    options: &Options,
    embedded: &Embedded<'_>,
    discovered: &Discovered,
) -> anyhow::Result<Place> {
    let nests = |parameters: &BTreeMap<String, String>| {
        let nested = parameters.get("nested").map(String::as_str);
        matches!(nested, Some("Y" | "1"))
    };
    let host = &discovered.host;
    let is_nested = host.kvm_problem.is_none() && host.modules.values().any(nests);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let has_vng = std::env::split_paths(&search).any(|directory| directory.join("vng").is_file());
    let local = embedded.local.map(Path::new);
    let own = local.map(|local| local.with_file_name("guest").join("run"));
    let command = match own.filter(|own| own.is_file()) {
        _ if has_vng && options.guests.modules.is_none() => by_vng(kernel, is_nested)?,
        Some(own) => {
            let mut files = embedded.with_local(&options.config);
            files.extend_from_slice(&options.known);
            files.extend_from_slice(&discovered.directories);
            by_own(&own, kernel, &options.guests, is_nested, files)?
        }
        None => bail!(
            "--kernel: nothing here boots it: install virtme-ng (vng), for a tree that is built, or use kvm-tests from its \
             sources, which have kvm-tests/guest/run"
        ),
    };
    // One that is emulated has one thread.
    let cpus = if is_nested { host.cpus / 2 } else { host.cpus };
    let memory = available_memory() / (GUEST_GIB << 30);
    let count = memory.min(cpus as u64).clamp(1, 999);
    Ok(Place {
        name: "guest".to_owned(),
        command,
        count: u16::try_from(count)?,
        about: Some(if is_nested { NESTED } else { EMULATED }),
        ..Place::default()
    })
}

/// A guest of virtme-ng, which sees the files of this host.
///
/// # Errors
/// It cannot boot the kernel.
fn by_vng(kernel: &Path, is_nested: bool) -> anyhow::Result<String> {
    // This prepares the tree's modules, which several at a time cannot.
    let prepared = cmd!("vng", "-r", kernel, "--dry-run", "--", "true")
        .stdin_null()
        .stdout_null();
    prepared.run().context("prepare the tree for virtme-ng")?;
    let kernel = quoted(kernel.as_os_str());
    let emulated = " --disable-kvm --qemu-opts='-accel tcg,thread=single'";
    let accel = if is_nested { "" } else { emulated };
    Ok(format!(
        "vng -r {kernel} --user root --cpus 2 --memory {GUEST_GIB}G{accel} -- {COMMAND}"
    ))
}

/// A guest of our own script, into which it puts this program and those files.
///
/// # Errors
/// This program is not found.
fn by_own(
    script: &Path,
    kernel: &Path,
    guests: &Guests,
    is_nested: bool,
    mut files: Vec<PathBuf>,
) -> anyhow::Result<String> {
    files.push(std::env::current_exe().context("find this program")?);
    let modules = guests.modules.iter().map(|modules| ("--modules", modules));
    let files = modules.chain(files.iter().map(|file| ("--add", file)));
    let mut words = format!(
        "{} --kernel {}",
        quoted(script.as_os_str()),
        quoted(kernel.as_os_str())
    );
    for (option, path) in files {
        let path = std::path::absolute(path).context("find the current directory")?;
        write!(words, " {option} {}", quoted(path.as_os_str()))?;
    }
    let arch = std::env::consts::ARCH.replace("aarch64", "arm64");
    let accel = if is_nested { "kvm" } else { "tcg" };
    Ok(format!(
        "{words} --arch {arch} --accel {accel} --memory {GUEST_GIB}G --timeout {FOREVER_S} {LINE} -- sh -c {COMMAND}"
    ))
}

/// Each place with a name of its own. Those that are called alike are of one kind.
fn numbered(kinds: &[Place]) -> Vec<Place> {
    let mut counts = BTreeMap::<&str, u32>::new();
    for kind in kinds {
        *counts.entry(&kind.name).or_default() += u32::from(kind.count);
    }
    let mut numbers = BTreeMap::<&str, u32>::new();
    let mut places = Vec::new();
    for kind in kinds {
        for _ in 0..kind.count {
            let number = numbers.entry(&kind.name).or_default();
            *number += 1;
            let mut place = kind.clone();
            if counts[&*kind.name] > 1 {
                place.name = format!("{}-{number}", kind.name);
            }
            place.label = (counts.len() > 1).then(|| kind.name.clone());
            places.push(place);
        }
    }
    places
}

/// The places in a file. Where something is wrong, the first mistake of every table is told.
fn read(path: &Path) -> anyhow::Result<Vec<Place>> {
    let text = file::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("read {}", path.display()))?;
    let file = TextFile::new(path, &text);
    let told = |problems: Vec<Problem>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow!(lines.join("\n"))
    };
    let table = file.parse().map_err(told)?;
    let (places, mut wrong) = file.read_tables::<Spanned<Place>>(table, PLACE);
    wrong.extend(places.iter().filter_map(|place| {
        let error = place.get_ref().check().err()?;
        Some(file.problem(place.span().start, error.to_string()))
    }));
    match wrong.is_empty() {
        true => Ok(places.into_iter().map(Spanned::into_inner).collect()),
        false => Err(told(wrong)),
    }
}
