//! Sites where the store may do something unusual that the protocol allows. In the real world
//! `buggify!("driver.flush-early")` is always `false`. In the simulator, in the seeds that arm sites at all, each site
//! is armed with a probability of one quarter, and an armed site returns `true` for a quarter of its calls.
//!
//! **Never**: a site whose unusual behaviour the protocol does not allow.

/// Returns whether the site `name` does something unusual this time.
#[cfg(not(madsim))]
#[inline(always)]
pub fn strikes(_name: &'static str) -> bool {
    false
}

#[cfg(madsim)]
use std::collections::BTreeMap;
#[cfg(madsim)]
use std::sync::Mutex;

/// The seed of this process's draws (0 if nothing is armed), and how many times each site was called.
#[cfg(madsim)]
static SITES: Mutex<(u64, BTreeMap<&'static str, u64>)> = Mutex::new((0, BTreeMap::new()));

/// Arms sites for the rest of the process, chosen by `seed`; 0 disarms all of them.
#[cfg(madsim)]
pub fn arm(seed: u64) {
    *SITES.lock().expect("no holder panics") = (seed, BTreeMap::new());
}

/// Returns whether a seed arms the site `name`.
#[cfg(madsim)]
pub fn is_armed(seed: u64, name: &str) -> bool {
    seed != 0 && super::rng::mix(super::rng::hash_label(seed, name)).is_multiple_of(4)
}

/// Returns whether the site `name` does something unusual this time.
#[cfg(madsim)]
pub fn strikes(name: &'static str) -> bool {
    let mut sites = SITES.lock().expect("no holder panics");
    let (seed, asked) = &mut *sites;
    if *seed == 0 {
        return false;
    }
    if !is_armed(*seed, name) {
        return false;
    }
    let site = super::rng::hash_label(*seed, name);
    let count = asked.entry(name).or_default();
    *count += 1;
    super::rng::mix(site ^ super::rng::mix(*count)).is_multiple_of(4)
}

/// Returns whether something unusual but legal is done here this time; constant `false` outside the simulator.
#[macro_export]
macro_rules! buggify {
    ($name:literal) => {
        $crate::rt::buggify::strikes($name)
    };
}
