//! Which instructions the kernels use, chosen once per process.
//!
//! A kernel is written once, as plain code over fixed-size arrays, and compiled for every [`Level`]; the levels differ
//! in speed and never in bits. What is `unsafe` here is to ask the CPU and the system, and to call code that was
//! compiled for instructions which not every CPU has.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::OnceLock;

/// A set of instructions that kernels are compiled for, from slow to fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every CPU of the compilation target has.
    Portable,
    /// x86-64 with AVX2 and FMA: vectors of 8.
    Avx2,
    /// x86-64 with AVX-512 (F, VL, BW, DQ): vectors of 16.
    Avx512,
    /// The same with AVX512_BF16: two products at once for [`crate::bf16`].
    Avx512Bf16,
    /// The same with AMX (TILE, BF16): tiles of products for [`crate::bf16`].
    Amx,
}

impl Level {
    /// All levels, from slow to fast.
    pub const ALL: [Level; 5] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];

    /// The name that the environment variable `CONVOY_CPU` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
            Level::Amx => "amx",
        }
    }
}

thread_local! {
    static OVERRIDE: Cell<Option<Level>> = const { Cell::new(None) };
}

/// The highest level this CPU has.
pub fn detected() -> Level {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        return match wide {
            false => Level::Avx2,
            true if !is_x86_feature_detected!("avx512bf16") => Level::Avx512,
            true if !has_amx() => Level::Avx512Bf16,
            true => Level::Amx,
        };
    }
    Level::Portable
}

/// Whether this CPU has tiles for bf16, and the system lets this process use them: it is asked once, for all threads.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx() -> bool {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    static HAS: OnceLock<bool> = OnceLock::new();
    /// AMX-BF16 and AMX-TILE, of what leaf 7 says in edx.
    const TILES: u32 = 1 << 22 | 1 << 24;
    /// That the system saves the tiles and their configuration, in XCR0.
    const SAVED: u32 = 3 << 17;
    /// Of leaf 1 in ecx: that XCR0 may be read.
    const OSXSAVE: u32 = 1 << 27;
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    *HAS.get_or_init(|| {
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 || __cpuid_count(7, 0).edx & TILES != TILES {
            return false;
        }
        let saved: u32;
        // SAFETY: the instruction is there (OSXSAVE), register 0 always is, and it changes nothing but eax and edx.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nomem, nostack)) };
        if saved & SAVED != SAVED {
            return false;
        }
        let refused: i64;
        // SAFETY: the system call takes no address, and a kernel that does not know it refuses.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => refused,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XTILEDATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        refused == 0
    })
}

/// Nobody else is asked.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_amx() -> bool {
    false
}

/// The fastest level on this CPU.
fn fastest() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = std::arch::x86_64::__cpuid(0);
        let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
        fastest_of(detected(), vendor.as_flattened())
    }
    #[cfg(not(target_arch = "x86_64"))]
    detected()
}

/// The fastest level on CPUs of this vendor whose highest is `highest`: on Intel's, plain AVX-512 does more products
/// than AVX512_BF16.
#[cfg(target_arch = "x86_64")]
fn fastest_of(highest: Level, vendor: &[u8]) -> Level {
    if highest == Level::Avx512Bf16 && vendor == b"GenuineIntel" { Level::Avx512 } else { highest }
}

/// The level that kernels called from this thread use: the fastest one, or one that this CPU has and the environment
/// variable `CONVOY_CPU` names (read once per process; a name that is unknown changes nothing, and of one that this CPU
/// lacks the highest counts that it has).
pub fn level() -> Level {
    static PROCESS: OnceLock<Level> = OnceLock::new();
    OVERRIDE.get().unwrap_or_else(|| {
        *PROCESS.get_or_init(|| {
            let wanted = std::env::var("CONVOY_CPU").ok();
            let named = Level::ALL.into_iter().find(|level| Some(level.name()) == wanted.as_deref());
            named.map_or_else(fastest, |level| level.min(detected()))
        })
    })
}

/// Runs `f` with the kernels of this thread at `level`; `None`, without running it, on a CPU that lacks the level.
/// For tests, which compare the levels.
pub fn with_level<R>(level: Level, f: impl FnOnce() -> R) -> Option<R> {
    (level <= detected()).then(|| at_level(level, f))
}

/// As [`with_level`], whatever the CPU has; for a test that does itself what the CPU cannot do, and has AVX512_BF16.
#[cfg(test)]
pub(crate) fn pretending<R>(level: Level, f: impl FnOnce() -> R) -> R {
    assert!(level <= detected() || detected() >= Level::Avx512Bf16, "nothing but AMX can be pretended");
    at_level(level, f)
}

fn at_level<R>(level: Level, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(level)));
    f()
}

/// Output channels that the convolution kernels compute at once on this thread: two vectors of its level.
pub(crate) fn panel() -> usize {
    if level() >= Level::Avx512 { 32 } else { 16 }
}

/// Code to be compiled for every level. Whatever `run` calls must be `#[inline(always)]` too, or it stays portable.
pub trait Kernel {
    /// What it gives.
    type Output;
    /// Runs it. `PANEL` is the number of output channels that convolutions compute at once, two vectors of the level.
    fn run<const PANEL: usize>(self) -> Self::Output;
}

/// Runs the kernel at this thread's level.
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: `level` is not above `detected`, which asked the CPU for exactly these features; where a test
        // pretends that it is, the CPU has these.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Bf16 | Level::Amx => unsafe { avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run::<16>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<32>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<16>()
}

/// Prefetches the `N` values from `at` on, which will be read or written soon, where this CPU has such an instruction.
#[inline(always)]
pub(crate) fn prefetch<const N: usize>(values: &[impl Copy], at: usize) {
    prefetch_lines::<_, N, false>(values, at);
}

/// As [`prefetch`], but only as near as the second-level cache: for what would be too much for the first.
#[inline(always)]
pub(crate) fn prefetch_far<const N: usize>(values: &[impl Copy], at: usize) {
    prefetch_lines::<_, N, true>(values, at);
}

#[inline(always)]
fn prefetch_lines<T: Copy, const N: usize, const FAR: bool>(values: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..(N * size_of::<T>()).div_ceil(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let line = values.as_ptr().wrapping_add(at).cast::<i8>().wrapping_add(64 * line);
        // SAFETY: a prefetch reads nothing the program sees, and any address may be prefetched.
        unsafe {
            if FAR {
                _mm_prefetch::<_MM_HINT_T1>(line);
            } else {
                _mm_prefetch::<_MM_HINT_T0>(line);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// Turns a function into one whose body is compiled for every level and dispatched at each call.
macro_rules! simd {
    (@out) => { () };
    (@out $out:ty) => { $out };
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $out)? {
            struct Call<T>(T);
            impl $crate::cpu::Kernel for Call<($($ty,)*)> {
                type Output = $crate::cpu::simd!(@out $($out)?);
                #[inline(always)]
                fn run<const PANEL: usize>(self) -> Self::Output {
                    let ($($arg,)*) = self.0;
                    $body
                }
            }
            $crate::cpu::dispatch(Call(($($arg,)*)))
        }
    };
}
pub(crate) use simd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_level_holds_for_the_closure_only() {
        let before = level();
        let levels = with_level(Level::Portable, || [with_level(detected(), level), Some(level())]);
        assert_eq!(levels, Some([Some(detected()), Some(Level::Portable)]));
        assert_eq!(level(), before);
        assert!(std::panic::catch_unwind(|| with_level(Level::Portable, || panic!("on purpose"))).is_err());
        assert_eq!(level(), before);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_highest_level_is_the_fastest_but_on_intels_cpus_without_amx() {
        for highest in Level::ALL {
            let intels = if highest == Level::Avx512Bf16 { Level::Avx512 } else { highest };
            assert_eq!(fastest_of(highest, b"GenuineIntel"), intels);
            assert_eq!(fastest_of(highest, b"AuthenticAMD"), highest);
        }
    }

    #[test]
    fn a_level_above_the_cpu_is_not_run() {
        for level in Level::ALL {
            assert_eq!(with_level(level, || ()).is_some(), level <= detected());
        }
    }
}
