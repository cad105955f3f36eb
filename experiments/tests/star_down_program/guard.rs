//! Numbers that are not finite, and statistics.

use crate::common::{BINARY, Place};
use crate::non_finite::{check_statistics, check_stop};

#[test]
fn pre_training_that_diverges_stops_with_its_rows() {
    let place = Place::new();
    let done = place.run(&["--set", "lr=1e30"]);
    check_stop(BINARY, place.path(), &done, &["coarse", "mlm"]);
}

#[test]
fn training_that_diverges_stops_with_its_rows() {
    let place = Place::new();
    let done = place.run(&["--set", "lr=1e30", "--stages", "star"]);
    check_stop(BINARY, place.path(), &done, &["rows"]);
}

#[test]
fn statistics_change_nothing_else() {
    let place = Place::new();
    place.run_well(&["--out", "plain"]);
    place.run_well(&["--out", "with", "--set", "guard.statistics_every=2"]);
    check_statistics(&place.at("plain"), &place.at("with"), 2);
}

#[test]
fn settings_of_the_guard_are_checked() {
    let place = Place::new();
    for (setting, words) in [
        (
            "guard.non_finite=ignore",
            ["guard.non_finite", "stop, skip"],
        ),
        ("guard.max_skips=0", ["guard.max_skips", "at least 1"]),
        ("guard.every=1", ["guard.", "every"]),
    ] {
        place.refuses(&["--set", setting], &words);
    }
}
