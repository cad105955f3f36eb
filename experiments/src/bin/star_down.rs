//! Fine categories from coarse labels: floors, coarse pre-training, DOWN and STAR from one start.
//!
//! Without arguments it runs on the bundled Pocket set with a small encoder drawn from the seed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use experiments::cli::{Common, conclude};
use experiments::error::RunError;
use experiments::star_down::{self, Request, StarDownConfig};

#[derive(Parser)]
#[command(name = "star_down", version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(real_main(Args::parse()))
}

fn real_main(args: Args) -> Result<(), RunError> {
    let common = args.common;
    let config = match &common.resume {
        Some(dir) => experiments::config::resolve(&StarDownConfig::default(), Some(&dir.join("config.toml")), &[])?,
        None => {
            let mut assignments = common.set.clone();
            for (key, value) in [
                ("data", &common.data),
                ("model", &common.model),
                ("device", &common.device),
            ] {
                if let Some(value) = value {
                    assignments.push(format!("{key}={value:?}"));
                }
            }
            for (key, list) in [("seeds", &common.seeds), ("stages", &common.stages)] {
                if let Some(list) = list {
                    let items: Vec<String> = list
                        .split(',')
                        .map(|item| if key == "seeds" { item.trim().to_owned() } else { format!("{:?}", item.trim()) })
                        .collect();
                    assignments.push(format!("{key}=[{}]", items.join(",")));
                }
            }
            let bundled = common.data.as_deref().is_none_or(|data| data == "pocket")
                && common.model.as_deref().is_none_or(|model| model == "pocket")
                && common.config.is_none();
            let defaults = if bundled { StarDownConfig::pocket()? } else { StarDownConfig::default() };
            experiments::config::resolve(&defaults, common.config.as_deref(), &assignments)?
        }
    };
    config.check()?;
    if common.dry_run {
        print!("{}", experiments::config::to_toml(&config)?);
        return Ok(());
    }
    let out = match (&common.resume, &common.out) {
        (Some(dir), _) => dir.clone(),
        (None, Some(out)) => out.clone(),
        (None, None) => experiments::cli::fresh_run_dir(&PathBuf::from("runs"), "star_down"),
    };
    let stop = training::StopFlag::install()?;
    let result = star_down::run(Request {
        config,
        out: out.clone(),
        resume: common.resume.is_some(),
        progress: training::auto(common.quiet, &stop),
        stop: &stop,
        command: std::env::args().collect(),
    })?;
    if !common.quiet {
        println!("{}", experiments::report::text_table(&result));
        println!("result.json, report.html, plots/ and model/ are in {}", out.display());
    }
    Ok(())
}
