//! Configurations that differ in a few keys from others.

use armilla::node::Config;
use toml::{Table, Value};

/// A configuration with some values replaced.
///
/// # Errors
/// A key that a node's file does not have, or a value that does not fit.
pub fn overlaid(base: &Config, over: &Table) -> Result<Config, String> {
    let mut table = Table::try_from(base).expect("a configuration has a TOML form");
    overlay(&mut table, over);
    let text = toml::to_string(&table).expect("a table has a TOML form");
    Config::from_toml(&text, "knobs.config").map_err(|error| error.to_string())
}

/// Replaces values of `table` by those of `over`, table by table.
fn overlay(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => overlay(inner, over),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}
