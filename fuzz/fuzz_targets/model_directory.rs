//! A model directory of which one file is hostile: the first byte says which.
#![no_main]

use std::sync::Once;

use asterism_fuzz::file;
use encoder::{LoadOptions, SentenceEncoder};
use kernels::DeviceSpec;
use libfuzzer_sys::fuzz_target;

const FILES: [(&str, &[u8]); 3] = [
    (
        "config.json",
        include_bytes!("../../crates/encoder/tests/fixtures/tiny_bert/config.json"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../crates/encoder/tests/fixtures/tiny_bert/tokenizer.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../crates/encoder/tests/fixtures/tiny_bert/model.safetensors"),
    ),
];

const HOSTILE: [&str; 7] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "asterism.json",
    "special_tokens_map.json",
];

fuzz_target!(|content: &[u8]| {
    static ONCE: Once = Once::new();
    // As in the target `tokenizer`.
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let Some((&choice, content)) = content.split_first() else {
        return;
    };
    let mut folder = file("model/here", b"");
    folder.pop();
    for name in HOSTILE {
        let _ = std::fs::remove_file(folder.join(name));
    }
    for (name, good) in FILES {
        file(&format!("model/{name}"), good);
    }
    const POOLING: &[u8] = br#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;
    let name = HOSTILE[usize::from(choice) % HOSTILE.len()];
    if name.starts_with("1_Pooling") {
        file("model/modules.json", POOLING);
    }
    file(&format!("model/{name}"), content);
    let device = DeviceSpec::Flex.open().expect("the CPU");
    let _ = SentenceEncoder::load(&folder, &LoadOptions::default(), &device);
});
