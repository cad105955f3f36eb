use crate::support::{asterism, failure, success};

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = success(asterism().args(["completions", shell]));
        for command in ["encode", "predict", "star-down", "coarse-gate"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let error = failure(asterism().args(["completions", "tcsh"]), 2);
    assert!(error.contains("bash"), "{error}");
}

#[test]
fn help_and_version_are_printed() {
    let help = success(asterism().arg("--help"));
    for command in [
        "encode",
        "predict",
        "train",
        "data",
        "model",
        "datagen",
        "report",
        "completions",
    ] {
        assert!(help.contains(command), "{help}");
    }
    assert!(success(asterism().arg("--version")).starts_with("asterism "));
}
