//! Sites that a run should reach. `reach!("snapshot.installed")` is nothing in the real world; in the simulated one it notes that the
//! run came by. The simulator shows in how many seeds each site was reached: one that never is tests nothing.

/// Notes that this run reached the site `name`.
#[cfg(not(madsim))]
#[inline(always)]
pub fn note(_name: &'static str) {}

#[cfg(madsim)]
static REACHED: std::sync::Mutex<std::collections::BTreeSet<&'static str>> =
    std::sync::Mutex::new(std::collections::BTreeSet::new());

/// Notes that this run reached the site `name`.
#[cfg(madsim)]
pub fn note(name: &'static str) {
    REACHED.lock().expect("no holder panics").insert(name);
}

/// The sites that this process has reached (one process runs one seed).
#[cfg(madsim)]
pub fn reached() -> Vec<&'static str> {
    REACHED.lock().expect("no holder panics").iter().copied().collect()
}

/// Notes that this run came by here; nothing outside the simulator.
#[macro_export]
macro_rules! reach {
    ($name:literal) => {
        $crate::rt::reach::note($name)
    };
}
