//! The results of a run, for people and for programs.

use std::time::Duration;

use armilla::client::Why;
use clap::ValueEnum as _;
use serde_json::json;

use super::{Args, Tally};

/// The results of a run.
pub struct Report {
    what: String,
    value: serde_json::Value,
    first_error: Option<String>,
}

impl Report {
    /// Creates the report of `tally`, which was measured for `took` and took `cpu` seconds of this process.
    pub fn new(args: &Args, tally: &Tally, took: Duration, cpu: f64) -> Report {
        let h = &tally.latencies_ns;
        let us = |q: f64| (h.value_at_quantile(q) as f64 / 100.0).round() / 10.0;
        let name =
            |value: Option<clap::builder::PossibleValue>| value.map_or(String::new(), |v| v.get_name().to_owned());
        let workload = name(args.workload.to_possible_value());
        let distribution = name(args.distribution.to_possible_value());
        let ops = h.len();
        let seconds = took.as_secs_f64();
        let mut value = json!({
            "workload": workload,
            "distribution": distribution,
            "clients": args.clients,
            "connections": args.connections,
            "batch": args.batch,
            "value_size": args.value_size,
            "keys": args.keys,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "ops": ops,
            "ops_per_s": (ops as f64 / seconds * 10.0).round() / 10.0,
            "pairs_per_s": (tally.pairs as f64 / seconds * 10.0).round() / 10.0,
            "mean_us": (h.mean() / 100.0).round() / 10.0,
            "p50_us": us(0.5),
            "p90_us": us(0.9),
            "p99_us": us(0.99),
            "p999_us": us(0.999),
            "max_us": (h.max() as f64 / 100.0).round() / 10.0,
            "errors": tally.errors,
            "client_cpu_s": (cpu * 1000.0).round() / 1000.0,
            "client_cpu_us_per_op": if ops == 0 { 0.0 } else { (cpu * 1e7 / ops as f64).round() / 10.0 },
        });
        let mode = args.workload.is_transactional().then(|| name(args.mode.to_possible_value()));
        if let Some(mode) = &mode {
            let prevented = |kinds: &[Why]| kinds.iter().filter_map(|why| tally.prevented.get(why)).sum::<u64>();
            value["mode"] = mode.clone().into();
            value["retries"] = tally.prevented.values().sum::<u64>().into();
            value["conflicts"] = prevented(&[Why::Conflict]).into();
            value["deadlocks"] = prevented(&[Why::Deadlock]).into();
            value["rolled_back"] = prevented(&[Why::RolledBack]).into();
        }
        let how = if args.batch { "streams" } else { "unary" };
        let workload = mode.map_or_else(|| workload.clone(), |mode| format!("{workload} ({mode})"));
        let what = format!(
            "{workload}, {} clients, {how} on {} connections per store, {} keys {distribution}, {} B values",
            args.clients,
            args.connections,
            grouped(args.keys),
            args.value_size
        );
        Report { what, value, first_error: tally.first_error.clone() }
    }

    /// Returns the report as one JSON object.
    pub fn json(&self) -> String {
        let mut value = self.value.clone();
        value["first_error"] = self.first_error.clone().into();
        value.to_string()
    }

    /// Returns the report as text.
    pub fn text(&self) -> String {
        let number = |key: &str| self.value[key].as_f64().unwrap_or(0.0);
        let ms = |key: &str| format!("{:.3} ms", number(key) / 1000.0);
        let mut text = format!("{}\n", self.what);
        text += &format!(
            "  throughput  {} ops/s ({} in {:.1} s)\n",
            grouped(number("ops_per_s") as u64),
            grouped(number("ops") as u64),
            number("seconds")
        );
        if self.value["workload"] == "scan" || self.value["workload"] == "txn-scan" {
            text += &format!("  pairs       {} per second\n", grouped(number("pairs_per_s") as u64));
        }
        text += &format!(
            "  latency     p50 {}, p99 {}, p99.9 {}, max {}\n",
            ms("p50_us"),
            ms("p99_us"),
            ms("p999_us"),
            ms("max_us")
        );
        text += &format!("  this client {:.1} us CPU per request\n", number("client_cpu_us_per_op"));
        if self.value["mode"].is_string() {
            let attempts = number("ops") + number("retries");
            text += &format!(
                "  retries     {} ({:.1} % of attempts): {} conflicts, {} deadlocks, {} rolled back by others\n",
                grouped(number("retries") as u64),
                if attempts > 0.0 { number("retries") / attempts * 100.0 } else { 0.0 },
                grouped(number("conflicts") as u64),
                grouped(number("deadlocks") as u64),
                grouped(number("rolled_back") as u64)
            );
        }
        if number("errors") > 0.0 {
            text += &format!("  errors      {}\n", grouped(number("errors") as u64));
        }
        if let Some(why) = &self.first_error {
            text += &format!("  first error {why}\n");
        }
        text
    }
}

/// Formats 1234567 as 1,234,567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_in_groups() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
