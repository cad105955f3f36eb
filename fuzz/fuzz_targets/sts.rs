//! Files of the similarity tasks: our tables and the layout of SentEval.
#![no_main]

use asterism_fuzz::file;
use datasets::sts::StsName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Some((&choice, content)) = content.split_first() else {
        return;
    };
    let tasks = [
        (StsName::StsB, "stsb"),
        (StsName::SickR, "sickr"),
        (StsName::Sts12, "sts12"),
    ];
    let (name, stem) = tasks[usize::from(choice) % tasks.len()];
    let path = file(&format!("sts-{stem}/{stem}.tsv"), content);
    let folder = path.parent().expect("a folder");
    if let Ok(task) = datasets::sts::load_sts_task(folder, name, datasets::Limits::default()) {
        let (low, high) = name.range();
        for split in &task.splits {
            assert!(split.pairs().all(|pair| (low..=high).contains(&pair.score)));
        }
    }
});
