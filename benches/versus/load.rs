//! Closed-loop load: each client sends one operation, waits for the response, and sends the next.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use armilla::rt::rng::Rng;
use hdrhistogram::Histogram;

use super::keys::{KEYS, key, value};
use super::peers::Target;

/// Warm-up before the window begins.
const WARM: Duration = Duration::from_millis(500);

/// The operation of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a random key.
    Put,
    /// Reads a random key, linearizably.
    Get,
}

/// One window of load.
pub struct Load {
    /// Number of clients.
    pub clients: usize,
    /// The clients' operation.
    pub op: Op,
    /// Duration after the warm-up.
    pub secs: u64,
}

/// The measurements of one window.
pub struct Window {
    /// Operations per second.
    pub per_s: f64,
    /// Median latency, ms.
    pub p50_ms: f64,
    /// 99th percentile of the latency, ms.
    pub p99_ms: f64,
    /// CPU time of all server processes per operation, us.
    pub cpu_us: f64,
    ops: u64,
    warm_ops: u64,
}

impl Window {
    /// Adds the servers' CPU seconds over the window and its warm-up.
    pub fn with_cpu(mut self, cpu_s: f64) -> Window {
        self.cpu_us = cpu_s * 1e6 / (self.ops + self.warm_ops).max(1) as f64;
        self
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { per_s, p50_ms, p99_ms, cpu_us, .. } = self;
        write!(f, "{per_s:.0} /s p50 {p50_ms:.2} p99 {p99_ms:.2} ms cpu {cpu_us:.0} us")
    }
}

/// Writes every tenth key, so that reads find something.
pub async fn fill(targets: &[Arc<Target>]) {
    let tasks: Vec<_> = (0..64u64)
        .map(|client| {
            let target = targets[client as usize % targets.len()].clone();
            tokio::spawn(async move {
                for number in (client * 10..KEYS).step_by(640) {
                    assert!(target.put(key(number), value()).await, "filling failed");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a client does not panic");
    }
}

impl Load {
    /// Runs the load over `targets`, to which the clients are assigned in turn.
    pub async fn run(&self, targets: &[Arc<Target>]) -> Window {
        let from = Instant::now() + WARM;
        let end = from + Duration::from_secs(self.secs);
        let tasks: Vec<_> = (0..self.clients)
            .map(|client| {
                let (target, op) = (targets[client % targets.len()].clone(), self.op);
                tokio::spawn(async move {
                    let mut rng = Rng::fork(17, &format!("client {client}"));
                    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
                    let (mut warm_ops, mut errors) = (0u64, 0u64);
                    let value = value();
                    loop {
                        let began = Instant::now();
                        if began >= end {
                            return (latency, warm_ops, errors);
                        }
                        let key = key(rng.below(KEYS));
                        let done = match op {
                            Op::Put => target.put(key, value.clone()).await,
                            Op::Get => target.get(key).await,
                        };
                        match (done, began >= from) {
                            (false, _) => errors += 1,
                            (true, false) => warm_ops += 1,
                            (true, true) => latency.record(began.elapsed().as_nanos() as u64).expect("in bounds"),
                        }
                    }
                })
            })
            .collect();
        let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        let (mut warm_ops, mut errors) = (0, 0);
        for task in tasks {
            let (latency, warm, failed) = task.await.expect("a client does not panic");
            all.add(latency).expect("same bounds");
            warm_ops += warm;
            errors += failed;
        }
        let elapsed = from.elapsed().as_secs_f64();
        assert!(errors * 100 <= all.len(), "{errors} errors beside {} operations", all.len());
        let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
        Window {
            per_s: all.len() as f64 / elapsed,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            cpu_us: 0.0,
            ops: all.len(),
            warm_ops,
        }
    }
}
