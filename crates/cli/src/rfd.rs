//! `asterism rfd`: relative fitting difficulty from recorded traces.

use std::path::{Path, PathBuf};

use experiments::ngcse::{Difficulty, TRACES_FILE, Trace, join_points, read_points, read_traces};
use serde::Serialize;

use crate::error::CliError;
use crate::output::{Output, field};

/// Print how hard the training sets of a run are to fit.
///
/// RFD_a and RFD_u are the means over the recorded steps of alignment and uniformity on held-out
/// training sentences minus those on the development set; larger means harder. Beside them stands the
/// mean of the five best development scores, in percent.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of an `ngcse` run, or its traces.csv; or the traces on held-out training sentences,
    /// a CSV with the columns step, alignment and uniformity.
    #[arg(value_name = "RUN_DIR|TRAIN.csv")]
    train: PathBuf,
    /// The traces on the development set, with the same columns and perhaps score.
    #[arg(value_name = "EVAL.csv")]
    eval: Option<PathBuf>,
    /// First step that counts; 1 leaves out the encoder that training starts from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    start_step: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Line {
    /// Setting of the run; nothing for traces from elsewhere.
    setting: Option<String>,
    seed: Option<u64>,
    #[serde(flatten)]
    difficulty: Difficulty,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let lines = match &args.eval {
        Some(eval) => {
            let trace = join_points(&read_points(&args.train)?, &read_points(eval)?)?;
            vec![Line {
                setting: None,
                seed: None,
                difficulty: trace.difficulty(args.start_step)?,
            }]
        }
        None => {
            let traces = read_traces(&traces_file(&args.train))?;
            let line = |trace: Trace| -> Result<Line, CliError> {
                Ok(Line {
                    difficulty: trace.difficulty(args.start_step)?,
                    setting: Some(trace.setting),
                    seed: Some(trace.seed),
                })
            };
            traces.into_iter().map(line).collect::<Result<_, _>>()?
        }
    };
    let mut output = Output::stdout();
    if args.json {
        output.json(&lines)?;
    } else {
        print(&mut output, &lines)?;
    }
    output.flush()
}

fn traces_file(run: &Path) -> PathBuf {
    if run.is_dir() {
        run.join(TRACES_FILE)
    } else {
        run.to_owned()
    }
}

fn print(output: &mut Output, lines: &[Line]) -> Result<(), CliError> {
    let name = |line: &Line| {
        line.setting
            .as_deref()
            .map_or_else(|| "-".to_owned(), field)
    };
    let width = lines.iter().map(|line| name(line).chars().count()).max();
    let width = width.unwrap_or(0).max("setting".len());
    output.line(format_args!(
        "{:<width$}  {:>6}  {:>5}  {:>9}  {:>9}  {:>6}  {:>6}  {:>7}",
        "setting", "seed", "steps", "RFD_a", "RFD_u", "top 5", "best", "at step"
    ))?;
    for line in lines {
        let Difficulty {
            rfd_a,
            rfd_u,
            steps,
            top5,
            best,
            best_step,
        } = line.difficulty;
        let signed =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:+.6}"));
        let percent = |value: Option<f64>| {
            value.map_or("-".to_owned(), |value| format!("{:.2}", 100.0 * value))
        };
        let whole = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        output.line(format_args!(
            "{:<width$}  {:>6}  {steps:>5}  {:>9}  {:>9}  {:>6}  {:>6}  {:>7}",
            name(line),
            whole(line.seed),
            signed(rfd_a),
            signed(rfd_u),
            percent(top5),
            percent(best),
            whole(best_step),
        ))?;
    }
    Ok(())
}
