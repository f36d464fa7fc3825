//! Bug files. A bug file of a failing seed contains everything needed to run it again, and the build on which it
//! failed.
//!
//! The meaning of a seed changes with the swarm; that of a plan changes with the store and the schedule. On another
//! build a replay may therefore pass, and its output says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::scenario::report::{Options, Report, Scenario};

/// The inputs of a run besides its plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The sources' commit, with `-dirty` if they differ from it; empty outside a clone.
    pub commit: String,
    /// A hash of the difference from the commit.
    pub difference: String,
    /// The compiler.
    pub toolchain: String,
    /// A hash of Cargo.lock.
    pub lock: String,
    /// The machine's architecture.
    pub arch: String,
}

/// The contents of a bug file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bug {
    /// The seed whose schedule failed.
    pub seed: u64,
    /// The oracle that fired.
    pub oracle: String,
    /// A description of the violation.
    pub what: String,
    /// The run's digest.
    pub digest: String,
    /// The build on which it failed.
    pub build: Build,
    /// The plan of the run.
    pub plan: Plan,
}

fn hash(bytes: &[u8]) -> String {
    let word = |label: &str| {
        bytes
            .iter()
            .fold(armilla::rt::rng::hash_label(0, label), |hash, byte| armilla::rt::rng::mix(hash ^ u64::from(*byte)))
    };
    format!("{:016x}", word("bug"))
}

fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program).args(arguments).current_dir(root).output();
    output.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default()
}

impl Build {
    /// Returns the sources and tools of this build, as far as they can be determined now.
    pub fn present() -> Build {
        let text = |program, arguments: &[&str]| String::from_utf8_lossy(&output(program, arguments)).trim().to_owned();
        let difference = output("git", &["diff", "HEAD", "--", ".."]);
        let dirty = if difference.is_empty() { "" } else { "-dirty" };
        let lock = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).unwrap_or_default();
        Build {
            commit: text("git", &["rev-parse", "HEAD"]) + dirty,
            difference: if difference.is_empty() { String::new() } else { hash(&difference) },
            toolchain: text("rustc", &["--version"]),
            lock: hash(&lock),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }

    /// Describes the differences from another build.
    fn differences(&self, other: &Build) -> Vec<String> {
        let fields = |build: &Build| {
            [
                ("commit", build.commit.clone()),
                ("difference from the commit", build.difference.clone()),
                ("toolchain", build.toolchain.clone()),
                ("Cargo.lock", build.lock.clone()),
                // Both architectures produce the same digests; `cargo meta --arm` checks it.
                ("architecture", build.arch.clone()),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(other));
        let differs = pairs.filter(|(own, theirs)| own.1 != theirs.1);
        differs.map(|(own, theirs)| format!("{}: {} there, {} here", own.0, own.1, theirs.1)).collect()
    }
}

impl Bug {
    /// Writes the file of a failed run and returns its path. Runs of bare raft groups have no plan and get no file.
    pub fn write(report: &Report, options: &Options, directory: &Path) -> Option<PathBuf> {
        let failure = report.failure.as_ref().filter(|_| options.scenario == Scenario::Cluster)?;
        let plan = match &options.plan {
            None => crate::plan::swarm::plan(report.seed),
            Some(path) => Plan::read(path).ok()?,
        };
        let bug = Bug {
            seed: report.seed,
            oracle: failure.oracle.clone(),
            what: failure.what.clone(),
            digest: report.digest.clone(),
            build: Build::present(),
            plan: Plan { schedule_seed: report.seed, bug: options.mutant.clone().or(plan.bug), ..plan },
        };
        std::fs::create_dir_all(directory).ok()?;
        let path = directory.join(format!("bug-{}.toml", report.seed));
        std::fs::write(&path, toml::to_string(&bug).ok()?).ok()?;
        Some(path)
    }

    /// Reads a bug file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not a bug file.
    pub fn read(path: &Path) -> Result<Bug, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bug: Bug = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        bug.plan.validate().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(bug)
    }

    /// Returns the text to print before the file is replayed: the failure and the differences between the builds.
    pub fn preface(&self) -> String {
        let differences = self.build.differences(&Build::present());
        let found = format!("found by seed {}: {} {}", self.seed, self.oracle, self.what);
        match differences.is_empty() {
            true => format!("{found}\n  the same build: it fails in the same way"),
            false => format!("{found}\n  another build, on which it may pass:\n    {}", differences.join("\n    ")),
        }
    }

    /// Returns the text to print after the file was replayed: whether it was the same run.
    pub fn epilogue(&self, report: &Report) -> String {
        match report.digest == self.digest {
            true => "the digest is the file's: this was the same run".to_owned(),
            false => format!("the digest is not the file's ({}): this was another run", self.digest),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a bug survives the round trip through its file, and another build is noticed.
    use super::*;

    #[test]
    fn files_and_builds() {
        let build = Build::present();
        let plan = crate::plan::swarm::plan(7);
        let (oracle, what) = ("durability".to_owned(), "lost".to_owned());
        let bug = Bug { seed: 7, oracle, what, digest: "d".to_owned(), build: build.clone(), plan };
        let text = toml::to_string(&bug).unwrap();
        assert_eq!(toml::from_str::<Bug>(&text).unwrap(), bug, "{text}");
        let other = Build { toolchain: "rustc 0.1".to_owned(), ..build.clone() };
        assert!(build.differences(&build).is_empty());
        assert_eq!(build.differences(&other).len(), 1);
    }
}
