//! This process's resource usage, from `/proc/self` on Linux.

use std::fs;

use crate::rt::process::Usage;

/// Returns the process's usage as the kernel reports it, or `None` if `/proc` is missing or not in Linux's format.
pub fn usage() -> Option<Usage> {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
    let units = Units { ticks_per_s: sysconf(libc::_SC_CLK_TCK)?, page_bytes: sysconf(libc::_SC_PAGESIZE)? };
    let boot_s = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time_s)?;
    usage_of(&read("stat")?, &read("limits")?, boot_s, open_fds()?, units)
}

/// The kernel's units.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_s: u64,
    page_bytes: u64,
}

fn sysconf(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf takes any name and touches no memory of this program.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

/// Returns how many descriptors this process has open. Since Linux 6.2 the directory's size is their number; listing
/// many of them is slow.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

fn boot_time_s(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Parses the texts of `/proc/self/stat` and `limits`.
fn usage_of(stat: &str, limits: &str, boot_s: u64, open_fds: u64, units: Units) -> Option<Usage> {
    // The program's name is in parentheses and may contain any character, including parentheses. Field 3 follows it.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / units.ticks_per_s as f64;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(Usage {
        cpu_seconds: seconds(field(14)? + field(15)?),
        open_fds,
        // "unlimited" is not a number.
        max_fds: limit.split_whitespace().next()?.parse().unwrap_or(u64::MAX),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * units.page_bytes,
        started_at_s: boot_s as f64 + seconds(field(22)?),
        threads: field(20)?,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: the right fields of the kernel's texts are used. Method: texts written by hand after proc(5), then this
    //! very process.

    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max processes             100                  100                  processes \n\
                          Max open files            1024                 524288               files     \n";

    fn stat(name: &str) -> String {
        let fields: Vec<String> = (4..=52).map(|number| (number * 100).to_string()).collect();
        format!("42 ({name}) S {}\n", fields.join(" "))
    }

    #[test]
    fn fields_are_counted_behind_the_name() {
        let units = Units { ticks_per_s: 100, page_bytes: 4096 };
        for name in ["armilla", "a (b) c", ") 1 2 3 (", ""] {
            let usage = usage_of(&stat(name), LIMITS, 1_700_000_000, 7, units).unwrap();
            assert_eq!(usage.cpu_seconds, 29.0, "{name}");
            assert_eq!((usage.open_fds, usage.max_fds, usage.threads), (7, 1024, 2000), "{name}");
            assert_eq!((usage.virtual_bytes, usage.resident_bytes), (2300, 2400 * 4096), "{name}");
            assert_eq!(usage.started_at_s, 1_700_000_022.0, "{name}");
        }
        let unlimited = LIMITS.replace("1024  ", "unlimited");
        assert_eq!(usage_of(&stat("a"), &unlimited, 0, 7, units).unwrap().max_fds, u64::MAX);
        assert!(usage_of("42 (a) S 1", LIMITS, 0, 7, units).is_none() && usage_of("", LIMITS, 0, 7, units).is_none());
        assert_eq!(boot_time_s("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_runs() {
        let (before, file) = (usage().unwrap(), std::fs::File::open("/proc/self/stat").unwrap());
        let after = usage().unwrap();
        assert!(after.open_fds >= 3 && after.max_fds >= after.open_fds, "{after:?}");
        assert!(after.resident_bytes > 1 << 20 && after.virtual_bytes > after.resident_bytes, "{after:?}");
        assert!(
            after.threads >= 1 && after.started_at_s > 1.6e9 && after.cpu_seconds >= before.cpu_seconds,
            "{after:?}"
        );
        drop(file);
    }
}
