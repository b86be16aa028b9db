//! Lays the program out in memory: functions that run at the start and on the usual way of a run lie together.
//!
//! The kernel maps a program in pieces of 64 KiB around what is touched, so a few thousand small functions all over the
//! program make most of it resident. Side by side they are a third of that. Their names are in `benches/layout/functions.txt`,
//! recorded by `benches/layout/record` with the compiler that the file's second line names; another compiler gives functions
//! other names and may bring another linker, and is left alone. So is whoever chose a linker of their own.

use std::process::Command;
use std::{env, fs};

const ORDER: &str = "benches/layout/functions.txt";

fn main() {
    println!("cargo::rerun-if-changed={ORDER}");
    println!("cargo::rerun-if-changed=build.rs");
    if is_release() && is_default_linker() && recorded_with() == compiled_with() {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={root}/{ORDER}");
        // Names that are gone cost nothing.
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}

/// Only the optimised program is laid out: without optimisation it has other functions.
fn is_release() -> bool {
    env::var("PROFILE").is_ok_and(|profile| profile == "release")
}

/// The compiler's own linker for this target understands the file; others may not.
fn is_default_linker() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_none() && !flags.contains("link")
}

/// Target and compiler, as the file tells them.
fn recorded_with() -> Option<String> {
    let order = fs::read_to_string(ORDER).ok()?;
    Some(order.lines().nth(1)?.strip_prefix("# ")?.to_owned())
}

/// The same of this build.
fn compiled_with() -> Option<String> {
    let told = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let compiler = String::from_utf8(told.stdout).ok()?;
    Some(format!("{}, {}", env::var("TARGET").ok()?, compiler.trim()))
}
