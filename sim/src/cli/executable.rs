//! The simulator as a program to start: this program, or the same sources built for aarch64.

use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::sync::OnceLock;

/// Command (words separated by spaces) that runs another build of the simulator, instead of the one that `cargo arm`
/// makes.
const OTHER: &str = "ARMILLA_SIM_OTHER";
/// Command that runs a program of this architecture; `cargo arm` sets it where the kernel cannot run one.
const EMULATOR: &str = "ARMILLA_EMULATOR";

/// Returns the command that runs this program.
pub fn own() -> Command {
    let program = std::env::current_exe().expect("a running program has a path");
    let emulator = std::env::var(EMULATOR).unwrap_or_default();
    let mut words = emulator.split_whitespace();
    match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    }
}

/// Returns the command that runs the build for aarch64 here. The first call builds it, and exits the process with an
/// error message if that fails.
pub fn aarch64() -> Command {
    static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    let words = WORDS.get_or_init(|| match build() {
        Ok(words) => words,
        Err(what) => {
            eprintln!("error: {what}");
            exit(2);
        }
    });
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn build() -> Result<Vec<String>, String> {
    if let Ok(other) = std::env::var(OTHER) {
        let words: Vec<String> = other.split_whitespace().map(str::to_owned).collect();
        return if words.is_empty() { Err(format!("{OTHER} is set and empty")) } else { Ok(words) };
    }
    if cfg!(target_arch = "aarch64") {
        return Err(format!(
            "this machine is aarch64 already: {OTHER} has to name another build of the simulator and what runs it, \
             or compare its digests with those of another machine (`cargo meta --write FILE`, `--against FILE`)"
        ));
    }
    // Cargo names the crate of this clone. The path that was compiled in may be that of another clone whose build is
    // reused here.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let root = Path::new(&manifest).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building the simulator for aarch64 (`cargo arm`)");
    let output = Command::new(cargo)
        .args(["arm", "program", "sim"])
        .current_dir(&root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo does not start in {}: {error}", root.display()))?;
    let words: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if !output.status.success() || words.is_empty() {
        return Err("the simulator for aarch64 was not built (see above)".to_owned());
    }
    Ok(words)
}
