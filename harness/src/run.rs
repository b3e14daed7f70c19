//! A run, from the command line to the exit status.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use libtest_mimic::{Arguments, Conclusion, FormatSetting, Trial};

use crate::cli::{Color, Format, Options};
use crate::commands::environment_commands;
use crate::compare::{self, Comparison};
use crate::environment::Environments;
use crate::environment::root::Root;
use crate::exec::execute::{Executor, is_followed, suites_of};
use crate::exec::gate::Gate;
use crate::exec::left_behind::Watch;
use crate::exec::neighbours::Neighbours;
use crate::exec::slots::{Demand, Slots};
use crate::exec::trial;
use crate::kernel_log::KernelLog;
use crate::kernel_log::end::Taint;
use crate::kernel_log::ignore::Ignored;
use crate::log::announcement::Announcer;
use crate::log::history::History;
use crate::log::journal::Journal;
use crate::log::nextest::Nextest;
use crate::log::record::Record;
use crate::log::results::Results;
use crate::log::resume::{self, Others, Resumed};
use crate::log::shared_run;
use crate::memory;
use crate::model::case::Case;
use crate::model::entry::{Entry, RunInfo, SCHEMA_VERSION};
use crate::model::event::{Event, Observer};
use crate::model::host::Host;
use crate::model::name::{CaseName, listed};
use crate::model::outcome::{Status, now_ms};
use crate::model::taint;
use crate::plan::{self, Discovered, Embedded, Selection};
use crate::report;
use crate::show::console::{self, Console};
use crate::show::forward::Forward;
use crate::show::header;
use crate::show::inquiry::Inquiries;
use crate::show::interruption;
use crate::show::libtest_json::LibtestJson;
use crate::show::outputs::Outputs;
use crate::show::pace::{Pace, Planned};
use crate::show::running::Running;
use crate::show::standing::Standing;
use crate::show::summary::Summary;
use crate::supervise::keepers::Keepers;

/// The most threads whose cases may wait for what they need, beside those of the workers.
const MOST_WAITING: usize = 256;

/// Something failed.
const EXIT_FAILED: u8 = 101;

/// It could not start: usage, configuration, or nothing matches the filter.
pub const EXIT_NOT_STARTED: u8 = 2;

/// Runs, or lists, what `options` ask for.
///
/// # Errors
/// It could not start, or not keep its results.
pub fn run(
    options: &Options,
    embedded: &Embedded,
    command_line: &[OsString],
) -> anyhow::Result<ExitCode> {
    // First, so that asking what runs ends nothing, whenever it comes.
    let inquiries = Inquiries::catch()?;
    let resumed = options.resume.as_deref().map(Resumed::open).transpose()?;
    let options = &match &resumed {
        Some(resumed) => resumed.options(options)?,
        None => options.clone(),
    };
    let host = Host::probe();
    let discovered = plan::discover(
        options,
        embedded,
        &host,
        &Environments::new(Root::from_env()),
    )?;
    let selection = Selection::new(options);
    if options.list {
        return list_selected(&discovered, &selection, options);
    }
    let (mut cases, filtered_out) = discovered.select(&selection, options.iterations);
    if cases.is_empty() && !options.bench && resumed.is_none() {
        bail!("{}", discovered.nothing_matches(&selection));
    }
    if options.dry_run {
        return environment_commands::dry_run(&discovered.environments(), &cases);
    }
    let nextest = Nextest::of(options)?;
    nextest
        .iter()
        .for_each(|nextest| nextest.number(&mut cases, options.iterations));
    if let Some(resumed) = &resumed {
        resumed.check_selftests(&discovered.selftest_sources())?;
    }
    let others = resumed
        .as_ref()
        .map(|resumed| resumed.retain(&mut cases))
        .unwrap_or_default();
    let seed = plan::seed(options);
    let results_directory = default_results_directory();
    let history = Arc::new(History::load(&results_directory, &host.hostname));
    let expected = |name: &str| history.expected(name);
    plan::sort(&mut cases, seed, expected, options.timeout());
    // Before there is a new directory: `latest` may be what is meant.
    let baseline = options
        .baseline
        .as_deref()
        .map(compare::Run::read)
        .transpose()?;

    let info = RunInfo {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: nextest
            .as_ref()
            .and_then(|_| Nextest::command_line())
            .unwrap_or_else(|| {
                command_line
                    .iter()
                    .map(|arg| arg.to_string_lossy().into_owned())
                    .collect()
            }),
        options: options.given.clone(),
        directory: std::env::current_dir().context("find the current directory")?,
        started_ms: now_ms(),
        host,
        selftests: discovered.selftest_sources(),
        workers: workers(options)?,
        shuffle_seed: seed,
        selected: cases.len(),
        nextest_run_id: nextest.map(|nextest| nextest.run_id),
    };
    let (results, notes) = match resumed {
        Some(resumed) => go_on(resumed, &info, &others)?,
        None => begin(options, &results_directory, &info, &cases)?,
    };
    let (results, cases) = (Arc::new(results), cases.into());
    let run = Run {
        options,
        selection,
        results,
        cases,
        others,
        filtered_out,
        info,
        history,
        notes,
        baseline,
    };
    run.go(discovered, inquiries)
}

/// Makes the directory of a new run, in `parent` where the user did not choose, or finds that of the run of nextest;
/// returns it with what is to be said.
fn begin(
    options: &Options,
    parent: &Path,
    info: &RunInfo,
    cases: &[Case],
) -> anyhow::Result<(Results, Vec<String>)> {
    let names = cases.iter().map(|case| case.name.clone()).collect();
    match &info.nextest_run_id {
        Some(id) => {
            let beside = options.output.as_deref().and_then(Path::parent);
            let create = |names| create(options, parent, info, names);
            Ok((
                shared_run::enter(beside.unwrap_or(parent), id, names, create)?,
                Vec::new(),
            ))
        }
        None => {
            let killed = options
                .output
                .is_none()
                .then(|| resume::what_killed_the_latest(parent))
                .flatten();
            Ok((
                create(options, parent, info, names)?,
                killed.into_iter().flatten().collect(),
            ))
        }
    }
}

fn create(
    options: &Options,
    parent: &Path,
    info: &RunInfo,
    cases: Vec<CaseName>,
) -> anyhow::Result<Results> {
    let results = match &options.output {
        Some(path) => Results::create_at(path, options.overwrite)?,
        None => Results::create_in(parent)?,
    };
    // One line, and so one write: a run of which anything is known is known with all that it was to do.
    results.record(&Entry::RunStarted {
        run: Box::new(info.clone()),
        cases,
    })?;
    results.sync_whole()?;
    Record::begun(info.clone()).write(results.root())?;
    Ok(results)
}

/// Goes on with a run in its directory; returns it with what is to be said.
fn go_on(
    resumed: Resumed,
    info: &RunInfo,
    others: &Others,
) -> anyhow::Result<(Results, Vec<String>)> {
    let notes = resumed.describe(info, others);
    let Resumed { results, record } = resumed;
    // From now on the journal tells how far it is.
    Record {
        outcomes: Vec::new(),
        finished: false,
        ..record
    }
    .write(results.root())?;
    results.record(&Entry::RunResumed {
        run: Box::new(info.clone()),
    })?;
    for outcome in &others.gone {
        results.record(&Entry::Finished {
            outcome: Box::new(outcome.clone()),
        })?;
    }
    results.sync_whole()?;
    Ok((results, notes))
}

fn list_selected(
    discovered: &Discovered,
    selection: &Selection,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let out = io::BufWriter::new(console::destination(options.logfile.as_deref())?);
    match plan::list(discovered, selection, options.format(), out) {
        Ok(0) if !selection.is_all() => {
            eprintln!("{}", discovered.nothing_matches(selection));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("print the list"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A run that is ready to go.
struct Run<'a> {
    options: &'a Options,
    selection: Selection,
    results: Arc<Results>,
    cases: Arc<[Case]>,
    /// The cases of a resumed run that do not run again.
    others: Others,
    filtered_out: usize,
    info: RunInfo,
    history: Arc<History>,
    /// What is to be said before it goes.
    notes: Vec<String>,
    baseline: Option<compare::Run>,
}

/// What there is to say of a run whose cases have ended, and which has put the host back.
struct Ended {
    console: Arc<Console>,
    /// What is printed at the very end.
    texts: Vec<String>,
    interrupted_by: Option<i32>,
    has_failed: bool,
}

impl Run<'_> {
    fn go(mut self, discovered: Discovered, inquiries: Inquiries) -> anyhow::Result<ExitCode> {
        let Ended {
            console,
            texts,
            interrupted_by,
            has_failed,
        } = self.run_cases(&discovered, inquiries)?;
        let others = self
            .baseline
            .is_some()
            .then(|| self.not_selected(&discovered));
        // From now on only outcomes count; they and the reports need about as much memory as the cases did.
        drop(discovered);
        (self.cases, self.history) = Default::default();
        memory::give_back();
        let reported = self.conclude();
        if let Err(error) = &reported {
            console.say(&format!("cannot write the reports: {error:#}"));
        }
        let kept = self.results.check();
        if let Err(error) = &kept {
            console.say(&format!("{error:#}"));
        }
        texts.iter().for_each(|text| self.print_at_the_end(text));
        let is_worse = match self.baseline.take() {
            Some(baseline) if interrupted_by.is_none() => {
                self.is_worse_than(baseline, &others.unwrap_or_default())?
            }
            Some(_) => {
                // What it did not get to is no news.
                self.print_at_the_end(
                    "\nnot compared with the baseline: this run was interrupted\n",
                );
                false
            }
            None => false,
        };
        Ok(exit_code(
            has_failed || is_worse || reported.is_err() || kept.is_err(),
            interrupted_by,
        ))
    }

    /// Runs the cases; whatever runs beside them has ended, too, when this returns.
    fn run_cases(&self, discovered: &Discovered, inquiries: Inquiries) -> anyhow::Result<Ended> {
        let begin = Instant::now();
        let keepers = Arc::new(Keepers::default());
        let running = Arc::new(Running::default());
        let pace = Arc::new(self.pace());
        let console = Arc::new(Console::new(
            Arc::clone(&running),
            Arc::clone(&pace),
            self.options,
            self.cases.len(),
        ));
        let summary = Arc::new(Summary::new(Arc::clone(&pace)));
        let announcer = Announcer::new(self.announced_together());
        let journal = Arc::new(Journal::new(
            Arc::clone(&self.results),
            announcer,
            Arc::clone(&console),
        ));
        let json = self.libtest_json(&keepers)?;
        let signals = interruption::watch(Arc::clone(&keepers), Arc::clone(&console))?;

        let neighbours = Neighbours::new(Arc::clone(&keepers), Arc::clone(&console));
        let root = Root::from_env();
        let ignored_splats = Ignored::new(discovered.ignored_splats().to_vec());
        let kernel_log = Arc::new(KernelLog::open(&root, self.results.root(), ignored_splats));
        let mut header = header::lines(&self.info, discovered, &kernel_log, self.results.root());
        header.extend(neighbours.describe());
        header
            .iter()
            .chain(&self.notes)
            .for_each(|line| console.say(line));
        let standing = Standing::new(
            Arc::clone(&running),
            Arc::clone(&summary),
            Arc::clone(&pace),
            self.results.directory()?,
            self.cases.len(),
        );
        let answering = inquiries.answer(standing, Arc::clone(&console))?;
        let informing = console
            .start()
            .context("start the thread that keeps the user informed")?;
        let forward = Arc::new(Forward::new(
            Arc::clone(&console),
            self.options.shown(),
            self.options.format(),
        ));
        let mut observers: Vec<Arc<dyn Observer>> = vec![
            journal.clone(),
            running.clone(),
            summary.clone(),
            self.history.clone(),
            pace,
            console.clone(),
            forward.clone(),
        ];
        observers.extend(json.clone().map(|json| json as Arc<dyn Observer>));
        observers.extend(
            self.outputs(&console)?
                .map(|outputs| Arc::new(outputs) as Arc<dyn Observer>),
        );

        // Where processes of nextest run side by side, what appears may be any one's.
        let watch = (!self.results.is_shared()).then(|| Arc::new(Watch::start()));
        observers.extend(watch.clone().map(|watch| watch as Arc<dyn Observer>));
        kernel_log
            .follow(observers.clone())
            .context("start to follow the kernel's log")?;

        let executed = || self.cases.iter().filter(|case| self.is_executed(case));
        for case in self.cases.iter().filter(|case| !self.is_executed(case)) {
            let reason = case.ignored.as_deref().unwrap_or_default();
            journal.ignored(case);
            summary.ignored(&case.name.to_string(), reason);
            running.ignored();
            forward.ignored(&case.name.to_string());
        }
        self.others
            .all()
            .for_each(|outcome| summary.notify(Event::Finished(outcome)));
        let executor = Arc::new(Executor {
            results: Arc::clone(&self.results),
            keepers: Arc::clone(&keepers),
            gate: Gate::new(
                &discovered.environments(),
                executed(),
                Arc::clone(&keepers),
                Arc::clone(&console),
                observers.clone(),
            ),
            slots: Arc::new(Slots::new(Demand {
                slots: u32::try_from(self.info.workers).unwrap_or(u32::MAX),
                memory: Host::available_memory(),
            })),
            history: Arc::clone(&self.history),
            host: neighbours,
            suites: suites_of(executed()),
            timeout: self.options.timeout(),
            kernel_log: Arc::clone(&kernel_log),
            observers,
        });
        let conclusion = match &json {
            Some(json) => self.conclude_as_json(json, &executor, &console, begin)?,
            None => self.conclude_as_text(&executor, &forward, &console, &keepers)?,
        };

        let not_restored = executor.gate.close();
        answering.stop();
        // Putting the host back may have upset the kernel, too.
        let kernel = kernel_log.close();
        let taint = Taint {
            before: self.info.host.taint,
            after: taint::read(&root),
        };
        running.close();
        if informing.join().is_err() {
            console.say("the thread that keeps the user informed panicked");
        }
        let interrupted_by = signals.stop();
        let duration_s = begin.elapsed().as_secs_f64();
        if let Err(error) = self.history.save() {
            console.say(&format!(
                "cannot keep the durations for the next run: {error}"
            ));
        }
        let left_behind = watch.map(|watch| watch.end()).unwrap_or_default();
        summary.left_behind(&left_behind);
        journal.record(&Entry::RunFinished {
            at_ms: now_ms(),
            duration_s,
            interrupted_by,
            taint: Some(taint.after),
            kernel_records_lost: kernel.lost,
            left_behind,
        });
        let mut texts = vec![summary.render(self.results.root()), kernel.render(taint)];
        texts.extend(
            not_restored
                .iter()
                .map(|problem| format!("\nTHIS HOST IS NOT AS IT WAS {problem}\n")),
        );
        let has_failed = conclusion.is_none_or(|conclusion| conclusion.has_failed())
            || self.others.all().any(|outcome| outcome.status.is_failure())
            || kernel.has_failed(taint)
            || !not_restored.is_empty()
            || !journal.is_complete();
        Ok(Ended {
            console,
            texts,
            interrupted_by,
            has_failed,
        })
    }

    /// Whether libtest-mimic runs `case`, rather than to call it ignored.
    fn is_executed(&self, case: &Case) -> bool {
        case.ignored.is_none() || self.selection.runs_ignored()
    }

    fn pace(&self) -> Pace {
        let planned = |case: &Case| {
            let listed = case.name.listed();
            let planned = Planned {
                weight: if case.exclusive {
                    u32::MAX
                } else {
                    case.weight
                },
                expected: self.history.expected(&listed),
                last: self.history.duration_of(&listed),
            };
            (case.name.to_string(), planned)
        };
        Pace::new(
            self.cases
                .iter()
                .filter(|case| self.is_executed(case))
                .map(planned),
            self.info.workers,
        )
    }

    /// The names of the cases whose starts may be told to the disk together: a suspect's is told alone, as those of the
    /// fewest possible are to be suspected next time.
    fn announced_together(&self) -> Vec<String> {
        self.cases
            .iter()
            .filter(|case| self.is_executed(case) && !case.suspect)
            .map(|case| case.name.to_string())
            .collect()
    }

    /// Writes run.json and the reports, unless another process that shares the run will do so.
    fn conclude(&self) -> anyhow::Result<()> {
        if self.results.leave_to_others() {
            return Ok(());
        }
        let root = self.results.root();
        self.results.make_again_if_removed()?;
        let record = Record::replayed(self.results.journal()?, Some(self.info.clone()))?;
        record.write(root)?;
        report::write_all_of(&record, root).map(drop)
    }

    /// In JSON the output stands in the events.
    fn outputs(&self, console: &Arc<Console>) -> anyhow::Result<Option<Outputs>> {
        if self.options.format() == Format::Json {
            return Ok(None);
        }
        Ok(Some(Outputs::new(
            self.results.directory()?,
            Arc::clone(console),
            self.options.shown(),
        )))
    }

    fn libtest_json(&self, keepers: &Arc<Keepers>) -> anyhow::Result<Option<Arc<LibtestJson>>> {
        if self.options.format() != Format::Json {
            return Ok(None);
        }
        let out =
            console::destination(self.options.logfile.as_deref()).context("create the logfile")?;
        let shows_passed = !self.options.shown().of(Status::Passed).streams().is_empty();
        let keepers = Arc::clone(keepers);
        let closed = move |error: &io::Error| {
            keepers.interrupt(interruption::signal_for(error));
        };
        Ok(Some(Arc::new(LibtestJson::new(
            out,
            self.results.directory()?,
            shows_passed,
            closed,
        ))))
    }

    /// libtest-mimic runs; what it prints goes nowhere, and ours is printed as it happens.
    fn conclude_as_json(
        &self,
        json: &Arc<LibtestJson>,
        executor: &Arc<Executor>,
        console: &Console,
        begin: Instant,
    ) -> anyhow::Result<Option<Conclusion>> {
        json.begin(self.cases.len(), self.info.shuffle_seed);
        for case in self.cases.iter().filter(|case| !self.is_executed(case)) {
            json.ignored(
                &case.name.to_string(),
                case.ignored.as_deref().unwrap_or_default(),
            );
        }
        let arguments = Arguments {
            logfile: Some("/dev/null".to_owned()),
            ..self.arguments()
        };
        let conclusion = self.run_trials(&arguments, self.trials(executor), console)?;
        if let Some(conclusion) = &conclusion {
            json.end(conclusion, begin.elapsed().as_secs_f64());
        }
        Ok(conclusion)
    }

    /// libtest-mimic runs and prints, through a pipe: so its lines and the live line do not mix, and a reader that
    /// goes away does not make it panic.
    fn conclude_as_text(
        &self,
        executor: &Arc<Executor>,
        forward: &Forward,
        console: &Console,
        keepers: &Keepers,
    ) -> anyhow::Result<Option<Conclusion>> {
        let out =
            console::destination(self.options.logfile.as_deref()).context("create the logfile")?;
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let logfile = format!("/proc/self/fd/{}", writer.as_raw_fd());
        // libtest-mimic panics where it cannot open it.
        drop(
            File::options()
                .write(true)
                .open(&logfile)
                .with_context(|| format!("open {logfile}"))?,
        );
        let arguments = Arguments {
            logfile: Some(logfile),
            ..self.arguments()
        };
        let trials = self.trials(executor);
        thread::scope(|scope| {
            let closed = |error: &io::Error| {
                keepers.interrupt(interruption::signal_for(error));
            };
            let forwarding = thread::Builder::new()
                .spawn_scoped(scope, move || forward.copy(reader, out, closed))
                .context("start the thread that prints the results")?;
            let conclusion = self.run_trials(&arguments, trials, console);
            drop(writer);
            // Whoever reads them or not: the run has to end as a whole.
            match forwarding.join() {
                Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
                    console.say(&format!("cannot print the results: {error}"));
                }
                Ok(_) => {}
                Err(_) => console.say("the thread that prints the results panicked"),
            }
            conclusion
        })
    }

    fn trials(&self, executor: &Arc<Executor>) -> Vec<Trial> {
        let mut executed = 0;
        let selected = self.cases.iter().enumerate().map(|(index, case)| {
            let place = executed;
            executed += usize::from(self.is_executed(case));
            trial::of(place, index, &self.cases, executor)
        });
        selected
            .chain((0..self.filtered_out).map(|_| trial::filtered_out()))
            .collect()
    }

    /// libtest-mimic's threads: one for each worker, one for what follows each fast case, and one for each case that may
    /// have to wait while others can run.
    fn threads(&self) -> usize {
        let workers = self.info.workers;
        let followed = self
            .cases
            .iter()
            .filter(|case| is_followed(case, &self.history));
        let special = self
            .cases
            .iter()
            .filter(|case| workers > 1 && Demand::of(case).is_special());
        workers + followed.take(workers).count() + special.take(MOST_WAITING).count()
    }

    /// Has libtest-mimic run all `trials`. It panics where it cannot start a thread, after those that it could start have
    /// run everything: then what became of the cases is known all the same, and `None` is returned.
    fn run_trials(
        &self,
        arguments: &Arguments,
        trials: Vec<Trial>,
        console: &Console,
    ) -> anyhow::Result<Option<Conclusion>> {
        self.check_threads()?;
        // Nothing of what it was given is used again.
        let concluded =
            panic::catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(arguments, trials)));
        if concluded.is_err() {
            console.say("libtest-mimic panicked: what it prints is not complete, the results are");
        }
        Ok(concluded.ok())
    }

    /// Whether as many threads can be started as will be needed: libtest-mimic panics where it cannot start one.
    fn check_threads(&self) -> anyhow::Result<()> {
        let count = self.threads() + 1;
        let (all_are_there, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let before = thread_count();
        thread::scope(|scope| {
            let mut threads = (0..count).map(|_| {
                // It fails when the sender is dropped: that is all that it waits for.
                thread::Builder::new().spawn_scoped(scope, || {
                    wait.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv()
                        .ok()
                })
            });
            let started = threads.try_for_each(|thread| thread.map(drop));
            drop(all_are_there);
            started.with_context(|| {
                format!("start {count} threads: run fewer cases at a time (--test-threads), or raise the limit (ulimit -u)")
            })
        })?;
        // A thread that has been joined counts until the kernel has put it away.
        while thread_count() > before {
            thread::yield_now();
        }
        Ok(())
    }

    fn arguments(&self) -> Arguments {
        let colored = match self.options.color {
            Color::Auto => self.options.logfile.is_none() && io::stdout().is_terminal(),
            Color::Always => true,
            Color::Never => false,
        };
        Arguments {
            // Ours says which cases are selected; libtest-mimic's part is to leave the others out and count them.
            skip: vec![trial::FILTERED_OUT.to_owned()],
            include_ignored: self.selection.runs_ignored(),
            test_threads: Some(self.threads()),
            format: Some(match self.options.format() {
                Format::Terse => FormatSetting::Terse,
                Format::Pretty | Format::Json => FormatSetting::Pretty,
            }),
            color: Some(if colored {
                libtest_mimic::ColorSetting::Always
            } else {
                libtest_mimic::ColorSetting::Never
            }),
            ..Arguments::default()
        }
    }

    /// The names of the cases that are there and were not selected.
    fn not_selected(&self, discovered: &Discovered) -> HashSet<String> {
        let mut selected: HashSet<String> =
            self.cases.iter().map(|case| case.name.listed()).collect();
        selected.extend(
            self.others
                .all()
                .map(|outcome| listed(&outcome.name).to_owned()),
        );
        let mut others = discovered.names(&Selection::everything());
        others.retain(|name| !selected.contains(name));
        others.into_iter().collect()
    }

    /// Says what changed since `baseline`, as far as it is about cases that were selected now or are no more: not about
    /// `others`.
    fn is_worse_than(
        &self,
        baseline: compare::Run,
        others: &HashSet<String>,
    ) -> anyhow::Result<bool> {
        let old = baseline.without(others);
        let new = compare::Run::read(self.results.root())?;
        let comparison = Comparison::of(&old, &new, None);
        self.print_at_the_end(&format!("\n{}", comparison.render(compare::Format::Text)));
        Ok(comparison.is_worse())
    }

    fn print_at_the_end(&self, text: &str) {
        let printed = if self.options.format() == Format::Json || self.options.logfile.is_some() {
            io::Write::write_all(&mut io::stderr(), text.as_bytes())
        } else {
            io::Write::write_all(&mut io::stdout(), text.as_bytes())
        };
        // A reader that went away has said that it wants no more.
        drop(printed);
    }
}

/// How many threads this process has; 0 where that cannot be read.
fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn workers(options: &Options) -> anyhow::Result<usize> {
    if let Some(threads) = options.test_threads {
        return Ok(threads.get());
    }
    match std::env::var("RUST_TEST_THREADS") {
        Ok(threads) => match threads.parse() {
            Ok(0) | Err(_) => {
                bail!("RUST_TEST_THREADS is `{threads}`, should be a positive integer")
            }
            Ok(threads) => Ok(threads),
        },
        Err(_) => Ok(num_cpus::get()),
    }
}

/// `kvm-tests` in Cargo's target directory, found from where this program lies; else in `target` of the working directory.
fn default_results_directory() -> PathBuf {
    let root = Root::from_env();
    if !root.is_host() {
        // What happens on a stand-in tells nothing about the host.
        return root.path("/kvm-tests");
    }
    let exe = std::env::current_exe().unwrap_or_default();
    // Cargo marks its target directory as a cache (CACHEDIR.TAG).
    let target = exe
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(Path::new("target")).join("kvm-tests")
}

fn exit_code(has_failed: bool, interrupted_by: Option<i32>) -> ExitCode {
    match interrupted_by {
        Some(signal) => ExitCode::from(128_u8.saturating_add(u8::try_from(signal).unwrap_or(0))),
        None if has_failed => ExitCode::from(EXIT_FAILED),
        None => ExitCode::SUCCESS,
    }
}
