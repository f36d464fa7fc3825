//! A node's own metrics registry: no globals, so that nodes in one process do not mix.

use prometheus::{IntGauge, Opts, Registry};

/// The registry of one node and the gauges that say what it is.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    registry: Registry,
    started_at_s: IntGauge,
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
        registry.register(Box::new(info)).expect("registered once");
        registry.register(Box::new(started_at_s.clone())).expect("registered once");
        NodeMetrics { registry, started_at_s }
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
}
