//! Weight files: tensors whose values fit their shapes, or an error.
#![no_main]

use asterism_fuzz::file;
use encoder::{read_safetensors, write_safetensors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let path = file("model.safetensors", content);
    if let Ok(tensors) = read_safetensors(&path, false) {
        for (name, tensor) in &tensors {
            assert_eq!(
                tensor.shape.iter().product::<usize>(),
                tensor.values.len(),
                "{name}"
            );
            assert!(
                tensor.values.iter().all(|value| value.is_finite()),
                "{name}"
            );
        }
        let again = file("again.safetensors", b"");
        write_safetensors(&again, &tensors, None).expect("a file");
        assert_eq!(
            read_safetensors(&again, false).expect("our own file"),
            tensors
        );
    }
    let _ = read_safetensors(&path, true);
});
