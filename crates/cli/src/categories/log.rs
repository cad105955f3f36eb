//! `asterism categories log` and `replay`.

use categories::{CATALOGUE_FILE, Category, CategoryId, Entry, LOG_FILE, Store};
use serde::Serialize;

use super::{RunArgs, say_healed};
use crate::error::CliError;
use crate::output::{Output, field};

/// List what was done to the categories, oldest first.
///
/// One line an event: revision, time (UTC), and what happened.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Check that the log gives categories.json.
///
/// Replays categories.log.jsonl from its first line and compares. Exits with 2 and the place if they
/// contradict each other.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Write categories.json from the log, whatever stands there.
    #[arg(long)]
    write: bool,
}

/// An event in short, without evidence and centroids.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    revision: u64,
    /// Seconds since 1970.
    at: u64,
    event: &'static str,
    /// Ids that were changed or retired.
    ids: Vec<CategoryId>,
    /// Ids that came into being.
    born: Vec<CategoryId>,
    /// Revision that was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    undone: Option<u64>,
    /// The same in words.
    text: String,
}

impl Event {
    pub(super) fn new(log: &[Entry], entry: &Entry) -> Self {
        use categories::Event as E;
        let of = |list: &[Category]| list.iter().map(|category| category.id).collect();
        let (event, ids, born, undone) = match &entry.event {
            E::Created { catalogue } => ("created", vec![], of(&catalogue.categories), None),
            E::Renamed { id, .. } => ("renamed", vec![*id], vec![], None),
            E::Merged { from, into } => ("merged", from.clone(), vec![into.id], None),
            E::Split { id, into } => ("split", vec![*id], of(into), None),
            E::Updated { changed, born, .. } => {
                let ids = changed.iter().map(|evidence| evidence.id).collect();
                ("updated", ids, of(born), None)
            }
            E::Calibrated { .. } => ("calibrated", vec![], vec![], None),
            E::Undone { revision } => ("undone", vec![], vec![], Some(*revision)),
        };
        Self {
            revision: entry.revision,
            at: entry.at,
            event,
            ids,
            born,
            undone,
            text: describe(log, entry),
        }
    }
}

/// An event in words.
pub(super) fn describe(log: &[Entry], entry: &Entry) -> String {
    use categories::Event as E;
    let listed = |ids: &[CategoryId]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        ids.join(", ")
    };
    let named = |list: &[Category]| {
        let names = list
            .iter()
            .map(|c| format!("{} `{}`", c.id, field(&c.name)));
        names.collect::<Vec<_>>().join(", ")
    };
    match &entry.event {
        E::Created { catalogue } => {
            format!("created {} categories", catalogue.categories.len())
        }
        E::Renamed { id, from, to, .. } => {
            format!("renamed {id} `{}` to `{}`", field(from), field(to))
        }
        E::Merged { from, into } => {
            let into = named(std::slice::from_ref(into));
            format!("merged {} into {into}", listed(from))
        }
        E::Split { id, into } => format!("split {id} into {}", named(into)),
        E::Updated { changed, born, .. } if born.is_empty() => {
            format!("updated {} categories", changed.len())
        }
        E::Updated { changed, born, .. } => {
            format!("updated {} categories, new: {}", changed.len(), named(born))
        }
        E::Calibrated { calibration } => {
            format!(
                "calibrated: unknown below cosine {:.3}",
                calibration.threshold
            )
        }
        E::Undone { revision } => {
            let target = log.iter().find(|entry| entry.revision == *revision);
            match target {
                // An undo that was taken back: in effect again is what it had undone.
                Some(Entry {
                    event: E::Undone { revision: edit },
                    ..
                }) => {
                    let edit = log.iter().find(|entry| entry.revision == *edit);
                    let what = edit.map_or_else(String::new, |edit| describe(log, edit));
                    format!(
                        "redid revision {}: {what}",
                        edit.map_or(*revision, |e| e.revision)
                    )
                }
                Some(target) => format!("undid revision {revision}: {}", describe(log, target)),
                None => format!("undid revision {revision}"),
            }
        }
    }
}

/// Runs `log`.
pub(super) fn log(args: &LogArgs) -> Result<(), CliError> {
    let log = args.run.read()?.log;
    let mut output = Output::stdout();
    if args.run.json {
        for entry in &log {
            output.json_line(&Event::new(&log, entry))?;
        }
    } else {
        for entry in &log {
            let (revision, time) = (entry.revision, utc(entry.at));
            output.line(format_args!(
                "{revision:>4}  {time}  {}",
                describe(&log, entry)
            ))?;
        }
    }
    output.flush()
}

/// Answer of `replay`.
#[derive(Debug, Serialize)]
struct Replayed {
    revision: u64,
    active: usize,
    /// `same`, `behind` (an edit was cut short; the next one sets it right) or `written`.
    catalogue: &'static str,
}

/// Runs `replay`.
pub(super) fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    let (catalogue, state) = if args.write {
        let store = Store::restore(&args.run.run).map_err(args.run.explain())?;
        say_healed(&store);
        (store.catalogue().clone(), "written")
    } else {
        // Reading has compared the file at its own revision, so that it is the same or older.
        let catalogue = args.run.read()?.catalogue;
        let path = args.run.run.join(CATALOGUE_FILE);
        let same = match std::fs::read(&path) {
            Ok(bytes) => bytes == catalogue.to_json()?.as_bytes(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(CliError::file("read", path)(error)),
        };
        (catalogue, if same { "same" } else { "behind" })
    };
    let answer = Replayed {
        revision: catalogue.revision,
        active: catalogue.active().count(),
        catalogue: state,
    };
    let mut output = Output::stdout();
    if args.run.json {
        output.json(&answer)?;
    } else {
        let verdict = match state {
            "same" => "is what it gives",
            "written" => "was written from it",
            _ => "is behind it; the next edit or --write brings it forward",
        };
        output.line(format_args!(
            "{LOG_FILE}: {} events, {} categories in use; {CATALOGUE_FILE} {verdict}",
            answer.revision, answer.active
        ))?;
    }
    output.flush()
}

/// Seconds since 1970 as date and time. The date by Hinnant's `civil_from_days`, in years that begin
/// in March so that the leap day comes last.
fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + carry;
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
