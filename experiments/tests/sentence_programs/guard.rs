//! Numbers that are not finite, and statistics.

use crate::common::{Place, Program, RegressionSts, Simcse, sets};
use crate::non_finite::{check_statistics, check_stop};

#[test]
fn training_that_diverges_stops_with_its_rows() {
    for (program, rate) in [(Simcse, "lr=1e30"), (RegressionSts, "nli.lr=1e30")] {
        let place = Place::new(program);
        let done = place.run(&sets(&[rate]));
        check_stop(program.binary(), place.path(), &done, &["rows"]);
    }
}

#[test]
fn statistics_change_nothing_else() {
    for program in Program::ALL {
        for part in ["micro_batch=0", "micro_batch=5"] {
            let place = Place::new(program);
            place.run_into("plain", &[part]);
            place.run_into("with", &[part, "guard.statistics_every=2"]);
            check_statistics(&place.at("plain"), &place.at("with"), 2);
        }
    }
}
