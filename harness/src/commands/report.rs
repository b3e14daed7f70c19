//! `kvm-tests report`: the reports of a run again, or the run in one more form.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::log;
use crate::model::file;
use crate::report::{PrintedForm, printed, write_all};
use crate::show::print;

/// `kvm-tests report`
#[derive(Debug, Clone, Args)]
pub struct ReportOptions {
    /// The run's directory, or its run.json
    run: PathBuf,

    /// Print the run in this form, and write no report
    #[arg(long, value_enum)]
    format: Option<ReportForm>,

    /// For kcidb: the CI system that reports (a-z, 0-9, _)
    #[arg(long, value_name = "NAME", value_parser = origin, required_if_eq("format", "kcidb"))]
    origin: Option<String>,

    /// For kcidb: the build that was tested
    #[arg(long, value_name = "ID", required_if_eq("format", "kcidb"))]
    build_id: Option<String>,
}

/// `--format`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReportForm {
    /// JSON for KCIDB, version 5.3 (needs --origin and --build-id)
    Kcidb,
    /// results.yaml of a tmt test with `result: custom`; also written to $TMT_TEST_DATA
    Tmt,
}

fn origin(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !text.is_empty() && text.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("may have a-z, 0-9 and _ only".to_owned()),
    }
}

/// Writes all reports of a run again, and says where; of one that was killed also its run.json. Or prints it in one more form.
///
/// # Errors
/// The run cannot be read, or something not be written.
pub fn report(options: &ReportOptions) -> anyhow::Result<ExitCode> {
    let (state, directory) = log::read(&options.run)?;
    match options.format {
        None => {
            if !state.finished || !directory.join(log::RUN_JSON).exists() {
                log::write_run_json(&state, &directory)?;
            }
            let written = write_all(&state, &directory)?;
            let lines = written.iter().map(|path| format!("{}\n", path.display()));
            print(&lines.collect::<String>())?;
        }
        Some(ReportForm::Kcidb) => {
            let (origin, build_id) = (options.origin.clone(), options.build_id.clone());
            let (origin, build_id) = (origin.unwrap_or_default(), build_id.unwrap_or_default());
            let form = PrintedForm::Kcidb { origin, build_id };
            print(&printed(&state, &directory, &form)?)?;
        }
        Some(ReportForm::Tmt) => {
            let data = env::var_os("TMT_TEST_DATA").map(PathBuf::from);
            let directory = directory.canonicalize().unwrap_or(directory);
            let results = printed(&state, &directory, &PrintedForm::Tmt { data: data.clone() })?;
            if let Some(data) = data {
                let path = data.join("results.yaml");
                let written = file::replace(&path, |file| file.write_all(results.as_bytes()));
                written.with_context(|| format!("write {}", path.display()))?;
            }
            print(&results)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
