//! The built binary as a command.

use std::process::{Command, Output};

/// `callboard`, without the settings of whoever runs the tests.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CALLBOARD") || name.starts_with("INNGEST"));
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `callboard` to its end.
pub(crate) fn callboard(arguments: &[&str]) -> Output {
    callboard_with(&[], arguments)
}

/// The same, with environment variables.
pub(crate) fn callboard_with(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = binary();
    command.envs(environment.iter().copied()).args(arguments);
    command.output().expect("the built binary starts")
}

/// What a command that succeeded said.
#[track_caller]
pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command that failed complained about.
#[track_caller]
pub(crate) fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
