//! `asterism doctor`: what this machine and this program can do, and what is missing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use encoder::LoadOptions;
use kernels::DeviceSpec;
use serde::Serialize;

use crate::error::CliError;
use crate::model::load;
use crate::output::Output;

/// Texts that the model check sends through the encoder: plain, empty, foreign, longer than any model
/// takes.
const PROBES: [&str; 4] = [
    "transfer money to my savings account",
    "",
    "私の口座の残高はいくらですか",
    "word ",
];

/// How often the last of [`PROBES`] is repeated.
const LONG: usize = 2000;

/// How far the length of a normalised vector may be from 1.
const UNIT: f32 = 1e-4;

/// Available memory in MiB below which a warning is due: MiniLM in training takes about this much.
const LOW_MEMORY_MIB: u64 = 1500;

/// Check backends, threads, memory, folders and a model.
///
/// Prints one line a check: ok, note (fine, but worth knowing) or fail with what to do about it.
/// Exit code 1 if a check failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model directory to check, or `pocket`, the bundled encoder.
    #[arg(long, short, value_name = "DIR|pocket", default_value = "pocket")]
    model: PathBuf,
    /// Device the model is checked on.
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceSpec,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Note,
    Fail,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn with(
        state: State,
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..Self::ok(name, found)
        }
    }

    fn lines(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Fail => "FAIL",
        };
        let mut lines = format!("{state:<5} {:<10} {}", self.name, self.found);
        if let Some(advice) = &self.advice {
            lines += &format!("\n{:<16} -> {advice}", "");
        }
        lines
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut checks = vec![program(), processor(), threads(), memory()];
    checks.extend(backends());
    checks.push(data_folder(&datasets::default_cache_dir()));
    checks.push(model(&args.model, args.device));
    let failed = checks
        .iter()
        .filter(|check| check.state == State::Fail)
        .count();
    let mut output = Output::stdout();
    if args.json {
        output.json(&serde_json::json!({
            "schema": "asterism/doctor/1",
            "healthy": failed == 0,
            "checks": checks,
        }))?;
    } else {
        for check in &checks {
            output.line(check.lines())?;
        }
    }
    output.flush()?;
    match failed {
        0 => Ok(()),
        failed => Err(CliError::Unhealthy { failed }),
    }
}

fn program() -> Check {
    let mut features = Vec::new();
    for (name, present) in [
        ("flex", cfg!(feature = "flex")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("tui", cfg!(feature = "tui")),
    ] {
        if present {
            features.push(name);
        }
    }
    let found = format!(
        "asterism {} for {}-{}, features {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
        features.join(" ")
    );
    if cfg!(debug_assertions) {
        let advice = "build with --release: this one is several times slower";
        return Check::with(
            State::Note,
            "program",
            format!("{found}, not optimised"),
            advice,
        );
    }
    Check::ok("program", found)
}

fn processor() -> Check {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found = Vec::new();
        for (name, present) in [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        ] {
            if present {
                found.push(name);
            }
        }
        if found.contains(&"AVX2") && found.contains(&"FMA") {
            Check::ok("processor", format!("x86-64 with {}", found.join(", ")))
        } else {
            Check::with(
                State::Note,
                "processor",
                "x86-64 without AVX2 and FMA",
                "everything works, several times slower",
            )
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Check::ok("processor", std::env::consts::ARCH)
    }
}

fn threads() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    match asked.as_deref().map(str::parse::<usize>) {
        None | Some(Ok(0)) => Check::ok("threads", format!("{cores}, one a core")),
        Some(Ok(threads)) if threads <= cores => Check::ok(
            "threads",
            format!("{threads} of {cores} by RAYON_NUM_THREADS"),
        ),
        Some(Ok(threads)) => Check::with(
            State::Note,
            "threads",
            format!("{threads} by RAYON_NUM_THREADS on {cores} cores"),
            format!("more threads than cores are slower: set it to {cores} or leave it out"),
        ),
        Some(Err(_)) => Check::with(
            State::Note,
            "threads",
            format!(
                "{cores}; RAYON_NUM_THREADS is not a number: `{}`",
                asked.unwrap_or_default()
            ),
            "set it to a number or leave it out",
        ),
    }
}

fn memory() -> Check {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (Some(total), Some(available)) = (
        mebibytes(&info, "MemTotal"),
        mebibytes(&info, "MemAvailable"),
    ) else {
        return Check::ok("memory", "not known on this system");
    };
    let found = format!("{available} MiB available of {total} MiB");
    if available < LOW_MEMORY_MIB {
        let advice =
            "training MiniLM takes about 1.5 GB: close programs, or use the bundled encoder";
        return Check::with(State::Note, "memory", found, advice);
    }
    Check::ok("memory", found)
}

/// The number behind a key of `/proc/meminfo`.
fn mebibytes(info: &str, key: &str) -> Option<u64> {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Every backend that this program was built with; the others in one line.
fn backends() -> Vec<Check> {
    let mut checks = Vec::new();
    let mut absent = Vec::new();
    for spec in [
        DeviceSpec::Flex,
        DeviceSpec::NdArray,
        DeviceSpec::Wgpu(0),
        DeviceSpec::Cuda(0),
    ] {
        match spec.open() {
            Ok(_) => checks.push(Check::ok("backend", format!("{spec} can be used"))),
            Err(kernels::DeviceError::NotCompiled { feature, .. }) => absent.push(feature),
            Err(error) => checks.push(Check::with(
                State::Note,
                "backend",
                error.to_string(),
                "install the driver of the device, or use another --device",
            )),
        }
    }
    if checks.iter().all(|check| check.state != State::Ok) {
        checks.push(Check::with(
            State::Fail,
            "backend",
            "none can be used",
            "build with `--features flex`",
        ));
    }
    let auto = DeviceSpec::Auto.resolve();
    checks.push(Check::ok("backend", format!("auto stands for {auto}")));
    if !absent.is_empty() {
        checks.push(Check::ok(
            "backend",
            format!("not in this program: {}", absent.join(", ")),
        ));
    }
    checks
}

/// Whether downloads can be kept.
fn data_folder(path: &Path) -> Check {
    let mut existing = path;
    while !existing.exists() {
        let Some(parent) = existing.parent() else {
            break;
        };
        existing = parent;
    }
    let writable = std::fs::metadata(if existing.as_os_str().is_empty() {
        Path::new(".")
    } else {
        existing
    })
    .is_ok_and(|found| found.is_dir() && !found.permissions().readonly());
    if writable {
        Check::ok("data", format!("downloads are kept in {}", path.display()))
    } else {
        Check::with(
            State::Note,
            "data",
            format!("downloads cannot be kept in {}", path.display()),
            "set ASTERISM_DATA to a folder of yours",
        )
    }
}

/// Loads a model and looks at vectors of odd texts.
fn model(path: &Path, device: DeviceSpec) -> Check {
    match try_model(path, device) {
        Ok(found) => Check::ok("model", found),
        Err((problem, advice)) => Check::with(State::Fail, "model", problem, advice),
    }
}

fn try_model(path: &Path, device: DeviceSpec) -> Result<String, (String, &'static str)> {
    let name = path.display();
    let unreadable = "check it with `asterism model info DIR`";
    let broken = "take the weights anew from where they come from";
    let model = load(path, &LoadOptions::default(), device)
        .map_err(|error| (error.to_string(), unreadable))?;
    let mut texts: Vec<String> = PROBES.map(str::to_owned).to_vec();
    if let Some(last) = texts.last_mut() {
        *last = last.repeat(LONG);
    }
    let began = Instant::now();
    let together = model
        .encode(&texts, texts.len())
        .map_err(|error| (format!("{name}: {error}"), broken))?;
    let seconds = began.elapsed().as_secs_f64();
    for (index, text) in texts.iter().enumerate() {
        let row = together.row(index);
        let shown: String = text.chars().take(24).collect();
        if let Some(bad) = row.iter().find(|value| !value.is_finite()) {
            return Err((
                format!("{name}: the vector of `{shown}` holds {bad}"),
                broken,
            ));
        }
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        if model.normalize && (length - 1.0).abs() > UNIT {
            return Err((
                format!("{name}: the vector of `{shown}` has length {length}, expected 1"),
                broken,
            ));
        }
    }
    Ok(format!(
        "{name}: {} dimensions, at most {} tokens, vectors sound ({} texts in {:.0} ms)",
        together.dim,
        model.max_len,
        texts.len(),
        seconds * 1e3
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_read_by_its_key() {
        let info = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   2048000 kB\n";
        assert_eq!(mebibytes(info, "MemAvailable"), Some(2000));
        assert_eq!(mebibytes(info, "MemTotal"), Some(23437));
        assert_eq!(mebibytes(info, "Mem"), None);
        assert_eq!(mebibytes("MemTotal: many kB", "MemTotal"), None);
    }

    #[test]
    fn a_folder_is_judged_by_its_nearest_parent() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        assert_eq!(data_folder(&deep).state, State::Ok);
        std::fs::write(dir.path().join("a"), "a file").unwrap();
        let check = data_folder(&deep);
        assert_eq!(check.state, State::Note);
        assert!(check.lines().contains("-> set ASTERISM_DATA"));
    }

    #[test]
    fn a_missing_model_fails_with_advice() {
        let check = model(Path::new("no-such-model"), DeviceSpec::Auto);
        assert_eq!(check.state, State::Fail);
        assert!(check.lines().starts_with("FAIL  model      no-such-model"));
        assert!(check.advice.unwrap().contains("asterism model info"));
    }
}
