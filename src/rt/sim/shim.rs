//! Closes a gap in madsim's determinism: `rand` 0.8 (through getrandom 0.2) draws its entropy with
//! `syscall(SYS_getrandom)`, which madsim does not interpose, and raft-rs draws its election timeouts from there. This
//! binary therefore defines `syscall` itself.
//!
//! getrandom 0.3 and 0.4 look up `getrandom` with `dlsym`; `sim/build.rs` exports madsim's symbol from the binary so
//! that they find that one. The standard library's hash keys also come from `getrandom`, which madsim interposes
//! itself.

use std::ffi::{c_int, c_long};

unsafe extern "C" {
    /// Inside a simulation, madsim's deterministic function; outside, the C library's.
    fn getrandom(buf: *mut u8, len: usize, flags: u32) -> isize;
}

/// Replaces the C library's `syscall` in this binary: entropy comes from the simulation, everything else goes to the
/// kernel.
///
/// # Safety
/// As for `syscall(2)`: the arguments must be valid for the call that `number` names.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a1: c_long,
    a2: c_long,
    a3: c_long,
    a4: c_long,
    a5: c_long,
    a6: c_long,
) -> c_long {
    if number == libc::SYS_getrandom && !SHIM_OFF.load(std::sync::atomic::Ordering::Relaxed) {
        // SAFETY: the caller vouches for the buffer, as it would to the kernel.
        return unsafe { getrandom(a1 as *mut u8, a2 as usize, a3 as u32) as c_long };
    }
    // SAFETY: passed on unchanged; the caller vouches for the arguments.
    let result = unsafe { kernel(number, [a1, a2, a3, a4, a5, a6]) };
    if (-4095..0).contains(&result) {
        // SAFETY: the C library's errno of this thread is always valid for writing.
        unsafe { *libc::__errno_location() = (-result) as c_int };
        return -1;
    }
    result
}

#[cfg(target_arch = "x86_64")]
unsafe fn kernel(number: c_long, args: [c_long; 6]) -> c_long {
    let result: c_long;
    // SAFETY: the kernel's calling convention; it clobbers rcx and r11 only.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn kernel(number: c_long, args: [c_long; 6]) -> c_long {
    let result: c_long;
    // SAFETY: the kernel's calling convention; it preserves all registers but x0.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

static SHIM_OFF: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Reopens the gap. Only the leak zoo does this, to show that `cargo meta` detects it.
pub fn disable_for_leak_test() {
    SHIM_OFF.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Keeps the linker from dropping this binary's `syscall`.
pub(super) fn install() {
    std::hint::black_box(syscall as *const ());
}
