//! Files of the transfer tasks.
#![no_main]

use asterism_fuzz::file;
use datasets::{Limits, TransferName, load_transfer_task};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Some((&choice, content)) = content.split_first() else {
        return;
    };
    let name = TransferName::ALL[usize::from(choice) % TransferName::ALL.len()];
    let stem = name.name().to_lowercase();
    let mut path = file(&format!("transfer/{stem}.tsv"), content);
    for part in ["train", "dev", "test"] {
        path = file(&format!("transfer/{stem}_{part}.tsv"), content);
    }
    let folder = path.parent().expect("a folder");
    if let Ok(task) = load_transfer_task(folder, name, Limits::default()) {
        for (_, rows) in task.parts() {
            assert!(
                rows.labels
                    .iter()
                    .all(|class| *class < name.classes().len())
            );
        }
    }
});
