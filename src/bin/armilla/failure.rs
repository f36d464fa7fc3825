//! How a command fails: a sentence, what to do about it, and an exit code.

use std::fmt::Display;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
    hint: Option<String>,
}

impl Failure {
    /// Creates the failure of a command that could not do its work.
    pub fn new(text: impl Display) -> Failure {
        Failure { code: 1, text: text.to_string(), hint: None }
    }

    /// Creates the failure of a command with wrong flags or a wrong configuration.
    pub fn usage(text: impl Display) -> Failure {
        Failure { code: 2, text: text.to_string(), hint: None }
    }

    /// Creates a failure that only sets the exit code, because everything was printed already.
    pub fn silent(code: u8) -> Failure {
        Failure { code, text: String::new(), hint: None }
    }

    /// Returns what went wrong.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds what to do about the failure.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Failure {
        self.hint = Some(hint.to_string());
        self
    }

    /// Says where it happened.
    #[must_use]
    pub fn at(mut self, place: &str) -> Failure {
        self.text = format!("{place}: {}", self.text);
        self
    }

    /// Prints the failure and returns its exit code.
    pub fn report(self) -> ExitCode {
        if !self.text.is_empty() {
            eprintln!("armilla: {}", self.text);
        }
        if let Some(hint) = self.hint {
            eprintln!("  what to do: {hint}");
        }
        ExitCode::from(self.code)
    }

    /// Creates the failure of a node that did not start, with what to do about the usual causes.
    pub fn of_node(name: &str, error: &armilla::types::Error) -> Failure {
        let text = error.to_string();
        let lower = text.to_lowercase();
        let hint = if lower.contains("address already in use") {
            Some("another program uses this port: stop it, or choose another port (--addr, or --base-port of `up`)")
        } else if lower.contains("cannot assign requested address") {
            Some("not an address of this machine: --addr is where to listen, --advertise-addr what others dial")
        } else if lower.contains("read-only file system") || lower.contains("permission denied") {
            Some("the directory is not writable: choose another one (--data), or give this user write permission")
        } else if lower.contains("another process uses") {
            Some("another node is running on this directory: stop it first, or choose another directory (--data)")
        } else if lower.contains("too many open files") {
            Some("raise the limit on file descriptors (`ulimit -n 65536`)")
        } else if lower.contains("no space left") {
            Some("the disk is full: free some space, then start again")
        } else {
            None
        };
        let failure = match error {
            armilla::types::Error::Invalid(_) => Failure::usage(format!("node {name}: {text}")),
            _ => Failure::new(format!("node {name}: {text}")),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<armilla::client::Error> for Failure {
    fn from(error: armilla::client::Error) -> Failure {
        let failure = Failure::new(&error);
        match error {
            armilla::client::Error::Unavailable(_) => {
                failure.hint("check that the cluster is running and that --pd is the address of one of its nodes")
            }
            armilla::client::Error::Unknown(_) => failure.hint("read the key to see what happened"),
            armilla::client::Error::Refused(_) => failure,
        }
    }
}

impl From<armilla::client::Failed> for Failure {
    fn from(failed: armilla::client::Failed) -> Failure {
        use armilla::client::{Failed, Why};
        let failure = Failure::new(&failed);
        match failed {
            Failed::Unknown(_) => failure.hint("read the keys to see whether the transaction has committed"),
            Failed::Aborted(abort) => match abort.why {
                Why::Conflict | Why::Deadlock | Why::RolledBack => {
                    failure.hint("nothing was written: run it again, it reads the newer values then")
                }
                Why::Exists | Why::Refused => failure,
            },
        }
    }
}
