//! AMX for a CPU that has none: a handler of SIGILL does what its instructions do, for those that
//! [`super::amx`] has, so that the code that is run is that of the program. For tests, which have it run on one thread
//! at a time; the step of a tile is the definition's.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::Once;

use super::step::step_of_one;
use crate::cpu::{self, Level};

/// Runs `f` at the level of AMX, emulated if need be; `None` without AVX-512, which that level has, too.
pub(super) fn with_amx<R>(f: impl FnOnce() -> R) -> Option<R> {
    static HANDLER: Once = Once::new();
    if cpu::detected() < Level::Avx512 {
        return None;
    }
    if cpu::detected() < Level::Amx {
        HANDLER.call_once(|| {
            // SAFETY: the handler is a function of the type that SA_SIGINFO asks for, and what it replaces is the end
            // of the process.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handle as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
            }
        });
    }
    Some(cpu::pretending(Level::Amx, f))
}

type TileBytes = [u8; 1024];

thread_local! {
    /// `None` until they are configured.
    static TILES: RefCell<Option<[TileBytes; 8]>> = const { RefCell::new(None) };
}

extern "C" fn handle(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system hands over the registers at the instruction that raised the signal, synchronously.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    // SAFETY: the CPU just read the instruction there; none that is looked for is shorter than what is read of it.
    let done = unsafe { emulate(registers) };
    if done.is_none() {
        // SAFETY: as it would have been without a handler, when the instruction is tried again.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// The registers of an operand's number.
const REGISTERS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Does the instruction and steps over it; `None` if it is none of AMX's.
///
/// # Safety
/// The registers must be those of this thread at an instruction, and the addresses in them as it needs them.
unsafe fn emulate(registers: &mut [i64; 23]) -> Option<()> {
    let register = |number: u8| registers[REGISTERS[usize::from(number)] as usize];
    let begin = registers[libc::REG_RIP as usize] as *const u8;
    let byte = |at: usize| {
        // SAFETY: the caller's promise.
        unsafe { *begin.add(at) }
    };
    // VEX of three bytes, map 0F38, W 0, 128 bits.
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let [not_r, not_x, not_b] = [7, 6, 5].map(|bit| byte(1) >> bit & 1);
    let (third, prefix, opcode) = (!(byte(2) >> 3) & 15, byte(2) & 3, byte(3));
    let (mode, reg, rm) = (byte(4) >> 6, byte(4) >> 3 & 7, byte(4) & 7);
    if not_r == 0 {
        return None;
    }
    // The operand in memory: base, what is scaled of another register, and the instruction's length.
    let (mut base, mut scaled, mut length) = (0, 0, 5);
    if mode != 3 {
        let mut number = rm;
        let mut displacement_only = mode == 0 && rm == 5;
        if rm == 4 {
            let sib = byte(length);
            length += 1;
            let index = sib >> 3 & 7 | (1 - not_x) << 3;
            if index != 4 {
                scaled = register(index) << (sib >> 6);
            }
            number = sib & 7;
            displacement_only = mode == 0 && number == 5;
        }
        let wide = mode == 2 || displacement_only;
        let displacement = match (mode, wide) {
            (_, true) => i64::from(i32::from_le_bytes([0, 1, 2, 3].map(|i| byte(length + i)))),
            (1, _) => i64::from(byte(length) as i8),
            _ => 0,
        };
        length += if wide { 4 } else { usize::from(mode == 1) };
        base = displacement;
        if displacement_only && rm == 5 {
            base += begin as i64 + length as i64;
        } else if !displacement_only {
            base += register(number | (1 - not_b) << 3);
        }
    }
    let row = |row: usize| (base + row as i64 * scaled) as *mut [u8; 64];
    let (tile, second, third) = (usize::from(reg), usize::from(rm), usize::from(third & 7));
    TILES.with_borrow_mut(|tiles| {
        match (opcode, prefix, mode) {
            // LDTILECFG, TILERELEASE.
            (0x49, 0, 0..=2) => {
                // SAFETY: the caller's promise.
                let config = unsafe { *((base + scaled) as *const [u8; 64]) };
                let all = (0..8).all(|tile| config[16 + 2 * tile] == 64 && config[48 + tile] == 16);
                if config[0] != 1 || !all {
                    return None;
                }
                *tiles = Some([[0; 1024]; 8]);
            }
            (0x49, 0, 3) => *tiles = None,
            // TILEZERO.
            (0x49, 3, 3) => tiles.as_mut()?[tile] = [0; 1024],
            // TILELOADD, TILELOADDT1.
            (0x4b, 3 | 1, 0..=2) => {
                for (i, to) in tiles.as_mut()?[tile].as_chunks_mut::<64>().0.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *to = unsafe { row(i).read_unaligned() };
                }
            }
            // TILESTORED.
            (0x4b, 2, 0..=2) => {
                for (i, from) in tiles.as_ref()?[tile].as_chunks::<64>().0.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { row(i).write_unaligned(*from) };
                }
            }
            // TDPBF16PS.
            (0x5c, 2, 3) => {
                let tiles = tiles.as_mut()?;
                let (a, b) = (tiles[second], tiles[third]);
                multiply(&mut tiles[tile], &a, &b);
            }
            _ => return None,
        }
        Some(())
    })?;
    registers[libc::REG_RIP as usize] += length as i64;
    Some(())
}

fn multiply(sums: &mut TileBytes, a: &TileBytes, b: &TileBytes) {
    let half = |tile: &TileBytes, at: usize| {
        f32::from_bits(u32::from(u16::from_le_bytes([tile[2 * at], tile[2 * at + 1]])) << 16)
    };
    for row in 0..16 {
        let x: [f32; 32] = std::array::from_fn(|term| half(a, row * 32 + term));
        for column in 0..16 {
            let y: [f32; 32] = std::array::from_fn(|term| half(b, term / 2 * 32 + column * 2 + term % 2));
            let sum: &mut [u8; 4] = &mut sums.as_chunks_mut::<4>().0[row * 16 + column];
            *sum = step_of_one(f32::from_le_bytes(*sum), &x, &y).to_le_bytes();
        }
    }
}
