//! Planted bugs. In the real world `mutant!("log.ack-before-fsync")` is always `false`; in the simulator it is `true`
//! when the run was started with that name. The zoo (`cargo zoo`) shows that the oracles find each planted bug.

/// Returns whether the planted bug `id` is enabled in this run.
#[cfg(not(madsim))]
#[inline(always)]
pub fn on(_id: &str) -> bool {
    false
}

/// Returns whether the planted bug `id` is enabled in this run.
#[cfg(madsim)]
pub fn on(id: &str) -> bool {
    ACTIVE.get().is_some_and(|active| active == id)
}

#[cfg(madsim)]
static ACTIVE: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Enables one planted bug for the rest of the process (a process runs a single seed).
#[cfg(madsim)]
pub fn plant(id: &str) {
    ACTIVE.set(id.to_owned()).expect("one planted bug a process");
}

/// Enables the planted bug that the environment variable `ARMILLA_MUTANT` names, once per process.
#[cfg(not(madsim))]
pub fn plant_from_environment() {}

/// Enables the planted bug that the environment variable `ARMILLA_MUTANT` names, once per process.
#[cfg(madsim)]
pub fn plant_from_environment() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Ok(id) = std::env::var("ARMILLA_MUTANT") {
            plant(&id);
        }
    });
}

/// Returns whether the planted bug of this name is enabled; constant `false` outside the simulator.
#[macro_export]
macro_rules! mutant {
    ($id:literal) => {
        $crate::rt::mutant::on($id)
    };
}
