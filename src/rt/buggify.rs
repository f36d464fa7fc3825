//! Sites where the store may legally do something unusual. `buggify!("driver.flush-early")` is `false` in the real world, always. In the
//! simulated one each site is armed in a quarter of the seeds that have any armed, and an armed site says yes to a quarter of its
//! questions.
//!
//! **Never**: a site whose unusual answer the protocol does not allow.

/// Whether the site `name` does something unusual this time.
#[cfg(not(madsim))]
#[inline(always)]
pub fn strikes(_name: &'static str) -> bool {
    false
}

#[cfg(madsim)]
use std::collections::BTreeMap;
#[cfg(madsim)]
use std::sync::Mutex;

/// The seed of this process's draws (0: nothing is armed), and how often each site was asked.
#[cfg(madsim)]
static SITES: Mutex<(u64, BTreeMap<&'static str, u64>)> = Mutex::new((0, BTreeMap::new()));

/// Arms sites for the rest of the process, as `seed` says; 0: none.
#[cfg(madsim)]
pub fn arm(seed: u64) {
    *SITES.lock().expect("no holder panics") = (seed, BTreeMap::new());
}

/// Whether the site `name` does something unusual this time.
#[cfg(madsim)]
pub fn strikes(name: &'static str) -> bool {
    let mut sites = SITES.lock().expect("no holder panics");
    let (seed, asked) = &mut *sites;
    if *seed == 0 {
        return false;
    }
    let site = super::rng::hash_label(*seed, name);
    if !super::rng::mix(site).is_multiple_of(4) {
        return false;
    }
    let count = asked.entry(name).or_default();
    *count += 1;
    super::rng::mix(site ^ super::rng::mix(*count)).is_multiple_of(4)
}

/// Whether something unusual but legal is done here this time; constant `false` outside the simulator.
#[macro_export]
macro_rules! buggify {
    ($name:literal) => {
        $crate::rt::buggify::strikes($name)
    };
}
