//! `cargo arm COMMAND …`: cargo for aarch64. On an aarch64 machine it is cargo itself. On x86-64 it cross-compiles,
//! runs the results under emulation (qemu-user), and first calls `.ci/arm64-setup` if a tool is missing. A cargo alias
//! can only run cargo, hence this program; it has no dependencies, so that it builds in a moment.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a developer's tool, which uses real files and processes and nothing of the store"
)]

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Debian's C library for aarch64.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";
/// Flags of builds without C++: the leaf crates, and the store with its simulator in the simulated world.
const SIMULATED: &[&str] =
    &["--profile", "sim", "--config=target.'cfg(all())'.rustflags=['--cfg','madsim']", "--no-default-features"];
const PACKAGES: &[&str] =
    &["-p", "armilla-arch", "-p", "armilla-proto", "-p", "armilla", "-p", "armilla-sim", "--lib", "--bin", "sim"];
/// Number of kills in the cluster test. Emulation makes it several times slower.
const KILL_ROUNDS: &str = "5";

/// Commands of cargo that make sense for another target.
const CARGO: &[&str] = &["bench", "build", "check", "clippy", "doc", "run", "rustc", "test", "tree"];

const USAGE: &str = "\
cargo arm: cargo for aarch64-unknown-linux-gnu, emulated on an x86-64 machine, native on an aarch64 machine

  cargo arm setup [--mca]      installs the cross compiler and the emulator (.ci/arm64-setup), as the other commands do
                               when they are missing; with --mca also llvm-mca, for benches/mca.py
  cargo arm test [FILTER …]    tests arch, proto, codec and the store in the simulated world, without C++: minutes
  cargo arm clippy, check      lints or checks the same sources for aarch64
  cargo arm build --release    builds the server with RocksDB: half an hour or more at first, then cached outside the clone
  cargo arm cluster-test       runs the engine scripts and the kill -9 tests of the engine and the cluster, with RocksDB
  cargo arm COMMAND -p PACKAGE …   runs any other cargo command for aarch64
  cargo sim run --arm, cargo meta --arm   run seeds on emulated aarch64

  ARMILLA_ARM_CPU=neoverse-n1  the CPU to emulate (qemu's -cpu; default: max)
  ARMILLA_ARM64_PREFIX=DIR     directory of the tools (~/.cache/armilla/arm64)
  ARMILLA_ARM64_CACHE=DIR      directory of builds with RocksDB (~/.cache/armilla/aarch64)";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let command = args.remove(0);
    match run(&command, &args) {
        Ok(code) => code,
        Err(what) => {
            eprintln!("cargo arm {command}: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, args: &[String]) -> Result<ExitCode, String> {
    match (command, args) {
        ("setup", []) => (),
        ("setup", [flag]) if flag == "--mca" => (),
        ("program", [name]) if name == "sim" => (),
        ("setup", _) => return Err("the only argument is --mca".to_owned()),
        ("program", _) => return Err("the only program is `sim`".to_owned()),
        ("cluster-test", [_, ..]) => return Err("it takes no arguments".to_owned()),
        _ if !CARGO.contains(&command) && command != "cluster-test" => {
            return Err(format!("no such command; see `cargo arm help`, or use one of cargo's {}", CARGO.join(", ")));
        }
        _ => (),
    }
    let setup = match command {
        "setup" => Some(args.to_vec()),
        // The cluster test's clients link OpenSSL.
        "cluster-test" => Some(vec!["--openssl".to_owned()]),
        _ => None,
    };
    let tools = Tools::find(setup.as_deref())?;
    match (command, args) {
        ("setup", _) => Ok(ExitCode::SUCCESS),
        ("test" | "check" | "clippy", _) if !selects(args) => tools.simulated(command, args),
        ("cluster-test", _) => tools.cluster_test(),
        ("program", _) => tools.program(),
        _ => tools.rocks(command, args),
    }
}

/// Returns whether cargo's arguments select packages or targets.
fn selects(args: &[String]) -> bool {
    const CHOOSING: &[&str] = &[
        "--package",
        "--workspace",
        "--all",
        "--all-targets",
        "--lib",
        "--bin",
        "--bins",
        "--test",
        "--tests",
        "--bench",
        "--benches",
        "--doc",
        "--example",
        "--examples",
    ];
    let own = args.iter().take_while(|arg| *arg != "--");
    own.map(|arg| arg.split_once('=').map_or(arg.as_str(), |(name, _)| name))
        .any(|name| CHOOSING.contains(&name) || name.starts_with("-p") && !name.starts_with("--"))
}

/// The locations of the tools.
struct Tools {
    /// The clone of the repository.
    root: PathBuf,
    /// Whether this machine is aarch64.
    native: bool,
    /// The directory of the cross tools.
    prefix: PathBuf,
    /// The directory of builds with RocksDB, which outlive the clone. Cargo keys them by the crates' versions and the
    /// flags.
    cache: PathBuf,
}

impl Tools {
    /// Finds the tools, or installs the missing ones. With the arguments of `setup`, always runs the installation.
    fn find(setup: Option<&[String]>) -> Result<Tools, String> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("start it as `cargo arm`")?;
        let root = Path::new(&manifest).parent().ok_or("the crate `arch` has no folder around it")?.to_owned();
        let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".cache"))
        });
        let place = |variable: &str, name: &str| {
            let place = match std::env::var_os(variable) {
                Some(place) => PathBuf::from(place),
                None => caches.as_ref().map(|caches| caches.join("armilla").join(name)).ok_or("HOME is not set")?,
            };
            // The programs that are started from here have other working directories.
            std::path::absolute(&place).map_err(|error| format!("{variable}: {}: {error}", place.display()))
        };
        let tools = Tools {
            native: cfg!(target_arch = "aarch64"),
            prefix: place("ARMILLA_ARM64_PREFIX", "arm64")?,
            cache: place("ARMILLA_ARM64_CACHE", "aarch64")?,
            root,
        };
        if setup.is_some() || !(tools.native || tools.ready()) {
            let status = Command::new(tools.root.join(".ci/arm64-setup"))
                .args(setup.unwrap_or_default())
                .env("ARMILLA_ARM64_PREFIX", &tools.prefix)
                .status()
                .map_err(|error| format!(".ci/arm64-setup does not start: {error}"))?;
            if !status.success() {
                return Err("the tools for aarch64 could not be set up (see above)".to_owned());
            }
        }
        Ok(tools)
    }

    fn ready(&self) -> bool {
        let ours = ["ready", "bin/rustc", "bin/rustdoc", "bin/qemu-aarch64"];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let compiler = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        ours.iter().all(|name| self.prefix.join(name).exists())
            && self.knows_target()
            && compiler("aarch64-linux-gnu-gcc")
            && compiler("aarch64-linux-gnu-g++")
    }

    /// Returns whether the compiler has the standard library for aarch64. A toolchain that rustup updates may have lost
    /// it.
    fn knows_target(&self) -> bool {
        let asked = Command::new(self.prefix.join("bin/rustc"))
            .args(["--print", "target-libdir", "--target", TARGET])
            .stderr(Stdio::null())
            .output();
        asked.is_ok_and(|output| {
            let folder = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            std::fs::read_dir(folder).is_ok_and(|mut files| {
                files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
            })
        })
    }

    fn cpu(&self) -> String {
        std::env::var("ARMILLA_ARM_CPU").unwrap_or_else(|_| "max".to_owned())
    }

    /// Returns the command prefix that runs an aarch64 program here.
    fn emulator(&self) -> Vec<String> {
        if self.native {
            return Vec::new();
        }
        let qemu = self.prefix.join("bin/qemu-aarch64").display().to_string();
        [&qemu, "-cpu", &self.cpu(), "-L", SYSROOT].map(str::to_owned).to_vec()
    }

    /// Returns cargo's output directory for builds without C++: below the usual one, because another compiler builds
    /// it.
    fn target_dir(&self) -> PathBuf {
        let usual = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from);
        if self.native { usual } else { usual.join("aarch64") }
    }

    /// Returns cargo, or clippy of the cross compiler's own version in its place.
    fn cargo(&self, command: &str, target_dir: &Path) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let clippy = self.prefix.join("bin/cargo-clippy");
        let mut cargo = if command == "clippy" && !self.native && clippy.exists() {
            Command::new(clippy)
        } else {
            Command::new(cargo)
        };
        cargo.arg(command).current_dir(&self.root).env("CARGO_TARGET_DIR", target_dir);
        // Removes the variables that cargo set for this program's own crate.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(name);
            }
        }
        // These would replace the flags of `.cargo/config.toml`, and with them the simulated world and RocksDB's
        // checksums.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        if self.native {
            return cargo;
        }
        for meant_for_this_machine in ["CFLAGS", "CXXFLAGS", "ROCKSDB_LIB_DIR", "ROCKSDB_STATIC", "ARMILLA_ARCH_TIER"] {
            cargo.env_remove(meant_for_this_machine);
        }
        let emulator = self.emulator().join(" ");
        cargo
            .env("RUSTC", self.prefix.join("bin/rustc"))
            .env("RUSTDOC", self.prefix.join("bin/rustdoc"))
            .env("CARGO_BUILD_TARGET", TARGET)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &emulator)
            .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
            .env("CXX_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-g++")
            .env("AR_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-ar")
            .env("AARCH64_UNKNOWN_LINUX_GNU_OPENSSL_LIB_DIR", self.prefix.join("openssl/usr/lib/aarch64-linux-gnu"))
            .env("AARCH64_UNKNOWN_LINUX_GNU_OPENSSL_INCLUDE_DIR", self.prefix.join("openssl/usr/include"))
            .env("AARCH64_UNKNOWN_LINUX_GNU_OPENSSL_STATIC", "1")
            .env("BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu", format!("-isystem {SYSROOT}/include"))
            // For tests that start their own program again: the kernel could not.
            .env("ARMILLA_EMULATOR", &emulator);
        cargo
    }

    /// Runs a command of cargo on everything that has no C++.
    fn simulated(&self, command: &str, args: &[String]) -> Result<ExitCode, String> {
        let mut cargo = self.cargo(command, &self.target_dir());
        finish(cargo.args(SIMULATED).args(PACKAGES).args(args))
    }

    /// Runs a command of cargo that may need RocksDB.
    fn rocks(&self, command: &str, args: &[String]) -> Result<ExitCode, String> {
        let target_dir = if self.native { self.target_dir() } else { self.cache.clone() };
        let code = finish(self.cargo(command, &target_dir).args(args))?;
        if command == "build" && !self.native && code == ExitCode::SUCCESS {
            println!("built below {}", target_dir.join(TARGET).display());
        }
        Ok(code)
    }

    /// Builds the simulator and prints the command that runs it, one word per line.
    fn program(&self) -> Result<ExitCode, String> {
        let target_dir = self.target_dir();
        // The same packages as in the tests, so that both share the build.
        let mut cargo = self.cargo("build", &target_dir);
        cargo.args(SIMULATED).args(PACKAGES).stdout(Stdio::null());
        let code = finish(&mut cargo)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
        let folder = if self.native { target_dir } else { target_dir.join(TARGET) };
        let program = std::path::absolute(folder.join("sim/sim")).map_err(|error| error.to_string())?;
        let mut out = std::io::stdout().lock();
        for word in self.emulator() {
            writeln!(out, "{word}").map_err(|error| error.to_string())?;
        }
        writeln!(out, "{}", program.display()).map_err(|error| error.to_string())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the tests with real files and processes that are worth emulating: the engine and the cluster. The emulated
    /// processes start each other, so the kernel must be able to run a program for aarch64: it is registered with
    /// binfmt_misc in a user namespace that ends with the tests.
    fn cluster_test(&self) -> Result<ExitCode, String> {
        if !self.native {
            let mut namespace = Command::new("unshare");
            namespace.args(["--user", "--map-root-user", "--mount", "true"]);
            if finish(&mut namespace)? != ExitCode::SUCCESS {
                let why = "real processes are emulated in a user namespace of their own, which this machine or container does \
                           not allow (docker: --security-opt seccomp=unconfined)";
                return Err(why.to_owned());
            }
        }
        let target_dir = if self.native { self.target_dir() } else { self.cache.clone() };
        let suites: [&[&str]; 3] = [
            &["--lib", "engine::"],
            &["--test", "engine_kill", "--", "--nocapture"],
            &["--test", "cluster", "--", "--nocapture", "--test-threads=1"],
        ];
        for suite in suites {
            let mut cargo = self.cargo("test", &target_dir);
            cargo.args(["--release", "-p", "armilla"]).args(suite);
            if !self.native {
                let rounds = std::env::var("ARMILLA_KILL_ROUNDS").unwrap_or_else(|_| KILL_ROUNDS.to_owned());
                cargo.env("ARMILLA_KILL_ROUNDS", rounds);
                cargo = self.with_binfmt(&cargo);
            }
            let code = finish(&mut cargo)?;
            if code != ExitCode::SUCCESS {
                return Ok(code);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the command in a user namespace in which the kernel starts aarch64 programs through the emulator.
    fn with_binfmt(&self, inner: &Command) -> Command {
        // binfmt_misc takes the name, the first bytes of an aarch64 ELF file with a mask, and the program.
        const REGISTER: &str = r#"
            mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || {
                echo "this kernel has no binfmt_misc for user namespaces (Linux 6.7 and later have)" >&2; exit 1; }
            head='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
            mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
            printf '%s' ":aarch64:M::$head:$mask:$ARMILLA_QEMU:F" >/proc/sys/fs/binfmt_misc/register
            exec "$@""#;
        let mut outer = Command::new("unshare");
        outer.args(["--user", "--map-root-user", "--mount", "sh", "-ec", REGISTER, "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        if let Some(folder) = inner.get_current_dir() {
            outer.current_dir(folder);
        }
        outer
            .env("ARMILLA_QEMU", self.prefix.join("bin/qemu-aarch64"))
            .env("QEMU_LD_PREFIX", SYSROOT)
            .env("QEMU_CPU", self.cpu())
            .env_remove("ARMILLA_EMULATOR");
        outer
    }
}

/// Runs a command to its end and returns its exit code.
fn finish(command: &mut Command) -> Result<ExitCode, String> {
    let program = command.get_program().to_owned();
    let status = command.status().map_err(|error| format!("{} does not start: {error}", program.display()))?;
    // A command that was ended by a signal has no code.
    Ok(status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(code.clamp(0, 255) as u8)))
}

#[cfg(test)]
mod tests {
    use super::selects;

    #[test]
    fn what_chooses_packages_goes_to_cargo_as_it_is() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in ["-p armilla-arch", "--package=armilla", "--release --test cluster", "--workspace x"] {
            assert!(selects(&words(line)), "{line}");
        }
        for line in ["crc", "--no-run", "codec -- --test-threads 1", "x -- --test", "--quiet"] {
            assert!(!selects(&words(line)), "{line}");
        }
    }
}
