//! A node's own metrics registry: no globals, so that nodes in one process do not mix.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge, Opts, Registry};

/// Figures that only count up, by room: they are counters to Prometheus, the others gauges.
const COUNTERS: &[(&str, &[&str])] = &[
    ("raft", &["leader_changes", "proposals", "reads_by_lease", "reads_by_quorum"]),
    ("log", &["syncs", "bytes_written", "records", "recycled", "created", "rewritten_bytes"]),
    ("engine", &["flushes", "background_errors"]),
];

/// The registry of one node and the gauges that say what it is.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    registry: Registry,
    started_at_s: IntGauge,
    serving: IntGauge,
    poisoned: IntGauge,
    figures: Arc<Mutex<BTreeMap<String, Figure>>>,
}

/// A figure as Prometheus sees it.
#[derive(Debug)]
enum Figure {
    Counter(IntCounter),
    Gauge(IntGauge),
}

impl Figure {
    fn new(registry: &Registry, room: &str, name: &str) -> Figure {
        let counts = COUNTERS.iter().any(|(of, names)| *of == room && names.contains(&name));
        let help = format!("`{room}.{name}` of /status.");
        let full = format!("armilla_{room}_{name}{}", if counts { "_total" } else { "" });
        let register = |one: Box<dyn Collector>| registry.register(one).expect("registered once");
        if counts {
            let counter = IntCounter::new(full, help).expect("a valid name");
            register(Box::new(counter.clone()));
            Figure::Counter(counter)
        } else {
            let gauge = IntGauge::new(full, help).expect("a valid name");
            register(Box::new(gauge.clone()));
            Figure::Gauge(gauge)
        }
    }

    fn set(&self, value: u64) {
        match self {
            Figure::Counter(counter) => counter.inc_by(value.saturating_sub(counter.get())),
            Figure::Gauge(gauge) => gauge.set(i64::try_from(value).unwrap_or(i64::MAX)),
        }
    }
}

impl NodeMetrics {
    /// A registry that knows the node's name and version.
    ///
    /// # Panics
    /// Never: the names are valid and registered once.
    pub fn new(node: &str) -> NodeMetrics {
        let registry = Registry::new();
        let info = Opts::new("armilla_build_info", "Always 1; the labels say which version runs.")
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("node", node)
            .const_label("arch", std::env::consts::ARCH);
        let info = IntGauge::with_opts(info).expect("a valid name");
        info.set(1);
        let started =
            Opts::new("armilla_start_time_seconds", "When the node started, seconds since 1970 by its own clock.");
        let started_at_s = IntGauge::with_opts(started).expect("a valid name");
        let serving = Opts::new("armilla_serving", "1 while the node takes requests, else 0.");
        let serving = IntGauge::with_opts(serving).expect("a valid name");
        let poisoned =
            Opts::new("armilla_poisoned", "1 once the store has stopped for good (a failed write or sync), else 0.");
        let poisoned = IntGauge::with_opts(poisoned).expect("a valid name");
        for gauge in [&info, &started_at_s, &serving, &poisoned] {
            registry.register(Box::new(gauge.clone())).expect("registered once");
        }
        NodeMetrics { registry, started_at_s, serving, poisoned, figures: Arc::default() }
    }

    /// Whether the node takes requests, and whether it has stopped for good.
    pub fn stands(&self, serving: bool, poisoned: bool) {
        self.serving.set(serving.into());
        self.poisoned.set(poisoned.into());
    }

    /// Brings the metrics of a room (`raft`, `log`, `engine`) up to date with its figures; each is `armilla_ROOM_NAME`.
    ///
    /// # Panics
    /// When a name is not one of Prometheus' names.
    pub fn show(&self, room: &str, figures: &BTreeMap<&'static str, u64>) {
        let mut shown = self.figures.lock().expect("no holder panics");
        for (name, value) in figures {
            let figure =
                shown.entry(format!("{room}.{name}")).or_insert_with(|| Figure::new(&self.registry, room, name));
            figure.set(*value);
        }
    }

    /// Where the other rooms register theirs.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The node started at `now_s` (unix seconds).
    pub fn started(&self, now_s: u64) {
        self.started_at_s.set(now_s as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_do_not_mix() {
        let (one, other) = (NodeMetrics::new("n1"), NodeMetrics::new("n2"));
        one.started(7);
        let text = |metrics: &NodeMetrics| {
            prometheus::TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap()
        };
        assert!(text(&one).contains("\narmilla_start_time_seconds 7\n"), "{}", text(&one));
        assert!(text(&other).contains("\narmilla_start_time_seconds 0\n"), "{}", text(&other));
        assert!(text(&other).contains("node=\"n2\""));
    }

    #[test]
    fn figures_are_counters_or_gauges_and_follow() {
        let metrics = NodeMetrics::new("n1");
        let text = || prometheus::TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap();
        for (syncs, segments) in [(3, 9), (5, 2)] {
            metrics.show("log", &BTreeMap::from([("syncs", syncs), ("segments", segments)]));
            let now = text();
            assert!(now.contains(&format!("\narmilla_log_syncs_total {syncs}\n")), "{now}");
            assert!(now.contains(&format!("\narmilla_log_segments {segments}\n")), "{now}");
        }
        assert!(
            text().contains("# TYPE armilla_log_syncs_total counter")
                && text().contains("# TYPE armilla_log_segments gauge")
        );
        metrics.stands(true, false);
        assert!(text().contains("\narmilla_serving 1\n") && text().contains("\narmilla_poisoned 0\n"));
    }
}
