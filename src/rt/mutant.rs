//! Planted bugs. `mutant!("log.ack-before-fsync")` is `false` in the real world, always; in the simulated one it is true when
//! the run was started with that id. The zoo (`cargo zoo`) shows that the oracles find each of them.

/// Whether the planted bug `id` is switched on in this run.
#[cfg(not(madsim))]
#[inline(always)]
pub fn on(_id: &str) -> bool {
    false
}

/// Whether the planted bug `id` is switched on in this run.
#[cfg(madsim)]
pub fn on(id: &str) -> bool {
    ACTIVE.get().is_some_and(|active| active == id)
}

#[cfg(madsim)]
static ACTIVE: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Switches one planted bug on, for the rest of the process (one process runs one seed).
#[cfg(madsim)]
pub fn plant(id: &str) {
    ACTIVE.set(id.to_owned()).expect("one planted bug a process");
}

/// Switches on the planted bug that the variable `ARMILLA_MUTANT` of the environment names, once a process.
#[cfg(not(madsim))]
pub fn plant_from_environment() {}

/// Switches on the planted bug that the variable `ARMILLA_MUTANT` of the environment names, once a process.
#[cfg(madsim)]
pub fn plant_from_environment() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Ok(id) = std::env::var("ARMILLA_MUTANT") {
            plant(&id);
        }
    });
}

/// True when the planted bug of this name is switched on; constant `false` outside the simulator.
#[macro_export]
macro_rules! mutant {
    ($id:literal) => {
        $crate::rt::mutant::on($id)
    };
}
