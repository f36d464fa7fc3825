//! Sites that runs should reach. In the real world `reach!("snapshot.installed")` does nothing; in the simulator it
//! records that the run reached the site. The simulator shows in how many seeds each site was reached: a site that no
//! seed reaches tests nothing.

/// Records that this run reached the site `name`.
#[cfg(not(madsim))]
#[inline(always)]
pub fn note(_name: &'static str) {}

#[cfg(madsim)]
static REACHED: std::sync::Mutex<std::collections::BTreeSet<&'static str>> =
    std::sync::Mutex::new(std::collections::BTreeSet::new());

/// Records that this run reached the site `name`.
#[cfg(madsim)]
pub fn note(name: &'static str) {
    REACHED.lock().expect("no holder panics").insert(name);
}

/// Returns the sites that this process has reached (a process runs a single seed).
#[cfg(madsim)]
pub fn reached() -> Vec<&'static str> {
    REACHED.lock().expect("no holder panics").iter().copied().collect()
}

/// Records that this run reached this site; does nothing outside the simulator.
#[macro_export]
macro_rules! reach {
    ($name:literal) => {
        $crate::rt::reach::note($name)
    };
}
