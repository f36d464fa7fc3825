//! A node's own metrics registry. It is not global, so that nodes in one process do not mix their metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{Counter, Gauge, IntCounter, IntGauge, Opts, Registry};

use crate::rt::process::Usage;
use crate::service::figures;

/// The registry of one node, with the gauges of the node itself.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    registry: Registry,
    started_at_s: IntGauge,
    serving: IntGauge,
    poisoned: IntGauge,
    process: Process,
    figures: Arc<Mutex<BTreeMap<String, Figure>>>,
}

/// The metrics of the process, under the names of Prometheus's own client libraries, which dashboards and alerts
/// expect. Nodes that share a process show the same values.
#[derive(Clone, Debug)]
struct Process {
    cpu_seconds: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    virtual_bytes: Gauge,
    resident_bytes: Gauge,
    started_at_s: Gauge,
    threads: Gauge,
}

impl Process {
    fn new(registry: &Registry) -> Process {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help).expect("a valid name");
            registry.register(Box::new(gauge.clone())).expect("registered once");
            gauge
        };
        let cpu_seconds = Counter::new("process_cpu_seconds_total", "Seconds of CPU time in user and kernel mode.");
        let cpu_seconds = cpu_seconds.expect("a valid name");
        registry.register(Box::new(cpu_seconds.clone())).expect("registered once");
        Process {
            cpu_seconds,
            open_fds: gauge("process_open_fds", "Number of open file descriptors."),
            max_fds: gauge("process_max_fds", "Maximum number of open file descriptors."),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory in bytes."),
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            started_at_s: gauge("process_start_time_seconds", "When the process started, seconds since 1970."),
            threads: gauge("process_threads", "Number of threads of the process."),
        }
    }

    fn show(&self, usage: &Usage) {
        self.cpu_seconds.inc_by((usage.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        self.open_fds.set(usage.open_fds as f64);
        self.max_fds.set(usage.max_fds as f64);
        self.virtual_bytes.set(usage.virtual_bytes as f64);
        self.resident_bytes.set(usage.resident_bytes as f64);
        self.started_at_s.set(usage.started_at_s);
        self.threads.set(usage.threads as f64);
    }
}

/// A statistic as a Prometheus metric.
#[derive(Debug)]
enum Figure {
    Counter(IntCounter),
    Gauge(IntGauge),
}

impl Figure {
    fn new(registry: &Registry, module: &str, name: &str) -> Figure {
        let known = figures::find(module, name);
        let counts = known.is_some_and(|known| known.counts);
        let help = known.map_or_else(|| format!("`{module}.{name}` of /status."), |known| format!("{}.", known.help));
        let full = format!("armilla_{module}_{name}{}", if counts { "_total" } else { "" });
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
    /// Creates a registry with the node's name and version.
    ///
    /// # Panics
    /// Never: all names are valid and registered once.
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
        let serving = Opts::new("armilla_serving", "1 while the node accepts requests, else 0.");
        let serving = IntGauge::with_opts(serving).expect("a valid name");
        let poisoned =
            Opts::new("armilla_poisoned", "1 once the store has stopped for good (a failed write or sync), else 0.");
        let poisoned = IntGauge::with_opts(poisoned).expect("a valid name");
        for gauge in [&info, &started_at_s, &serving, &poisoned] {
            registry.register(Box::new(gauge.clone())).expect("registered once");
        }
        let process = Process::new(&registry);
        NodeMetrics { registry, started_at_s, serving, poisoned, process, figures: Arc::default() }
    }

    /// Updates the metrics of the process.
    pub fn show_process(&self, usage: &Usage) {
        self.process.show(usage);
    }

    /// Sets whether the node accepts requests, and whether it has stopped for good.
    pub fn set_state(&self, serving: bool, poisoned: bool) {
        self.serving.set(serving.into());
        self.poisoned.set(poisoned.into());
    }

    /// Updates the metrics of a module (`raft`, `log`, `engine`) from its statistics; each is named
    /// `armilla_MODULE_NAME`.
    ///
    /// # Panics
    /// If a name is not a valid Prometheus name.
    pub fn show(&self, module: &str, figures: &BTreeMap<&'static str, u64>) {
        let mut shown = self.figures.lock().expect("no holder panics");
        for (name, value) in figures {
            let figure =
                shown.entry(format!("{module}.{name}")).or_insert_with(|| Figure::new(&self.registry, module, name));
            figure.set(*value);
        }
    }

    /// Returns the registry in which other modules register their metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Records that the node started at `now_s` (unix seconds).
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
    fn the_process_has_the_names_that_dashboards_know() {
        let metrics = NodeMetrics::new("n1");
        let usage = |cpu_seconds| Usage {
            cpu_seconds,
            open_fds: 9,
            max_fds: 1024,
            virtual_bytes: 1 << 30,
            resident_bytes: 1 << 20,
            started_at_s: 1_700_000_000.5,
            threads: 4,
        };
        for (cpu_seconds, shown) in [(1.5, "1.5"), (2.25, "2.25"), (2.0, "2.25")] {
            metrics.show_process(&usage(cpu_seconds));
            let text = prometheus::TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap();
            for line in [
                &format!("process_cpu_seconds_total {shown}"),
                "process_open_fds 9",
                "process_max_fds 1024",
                "process_virtual_memory_bytes 1073741824",
                "process_resident_memory_bytes 1048576",
                "process_start_time_seconds 1700000000.5",
                "process_threads 4",
                "# TYPE process_cpu_seconds_total counter",
            ] {
                assert!(text.lines().any(|other| other == line), "no {line}:\n{text}");
            }
        }
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
        metrics.set_state(true, false);
        assert!(text().contains("\narmilla_serving 1\n") && text().contains("\narmilla_poisoned 0\n"));
    }
}
