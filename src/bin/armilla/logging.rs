//! Logging to standard error, as text or as JSON.

use std::io::IsTerminal as _;

use armilla::node::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Starts logging, with levels that [`armilla::node::Config::validate`] has checked. Must be called once per process.
pub fn init(config: &LogConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        Failure::usage(format!("log.level `{}`: {error}", config.level))
            .hint("use error, warn, info, debug or trace, or directives such as info,armilla::replica=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match config.format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| Failure::new(format!("logging: {error}")))
}
