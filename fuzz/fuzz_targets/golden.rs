//! Golden files through the conformance program: a report, whatever the file says.
#![no_main]

use std::sync::Once;

use asterism_fuzz::file;
use experiments::conformance::{Options, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    static ONCE: Once = Once::new();
    // A check that panics is a failed line of the report, by design; a panic outside still ends the
    // program.
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let paths = vec![file("golden.json", content)];
    let mut lines = 0;
    if let Ok(report) = run(
        &Options {
            paths,
            ..Options::default()
        },
        |_| lines += 1,
    ) {
        assert_eq!(report.lines.len(), lines);
        assert!(!report.bad_input.is_empty() || report.exit_code() != 2);
    }
});
