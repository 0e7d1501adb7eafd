//! AMX for a CPU that has none: a handler of SIGILL does what its instructions do, for those that
//! [`super::amx`] has, so that the code that is run is that of the program. For tests, which have it run on one thread
//! at a time; the step of a tile is the definition's.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::Once;

use super::step::step_of_one;
use crate::cpu::{self, Level};

/// Runs `f` at the level of AMX, emulated if need be; `None` without AVX512_BF16, which that level has, too.
pub(super) fn with_amx<R>(f: impl FnOnce() -> R) -> Option<R> {
    static HANDLER: Once = Once::new();
    if cpu::detected() < Level::Avx512Bf16 {
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

/// An instruction with a VEX prefix, and what it names.
struct Instruction {
    opcode: u8,
    prefix: u8,
    /// 3 where no operand is in memory.
    mode: u8,
    /// The tiles of its operands, as the manual orders them.
    tiles: [usize; 3],
    /// An address, and the distance of rows in memory.
    base: i64,
    scaled: i64,
    length: usize,
}

/// Does the instruction and steps over it; `None` if it is none of AMX's.
///
/// # Safety
/// The registers must be those of this thread at an instruction, and the addresses in them as it needs them.
unsafe fn emulate(registers: &mut [i64; 23]) -> Option<()> {
    // SAFETY: the caller's promise.
    let instruction = unsafe { decode(registers) }?;
    // SAFETY: the caller's promise.
    TILES.with_borrow_mut(|tiles| unsafe { execute(&instruction, tiles) })?;
    registers[libc::REG_RIP as usize] += instruction.length as i64;
    Some(())
}

/// Reads the instruction; `None` if it is no VEX of three bytes, map 0F38, W 0, 128 bits.
///
/// # Safety
/// As for [`emulate`].
unsafe fn decode(registers: &[i64; 23]) -> Option<Instruction> {
    let register = |number: u8| registers[REGISTERS[usize::from(number)] as usize];
    let begin = registers[libc::REG_RIP as usize] as *const u8;
    let byte = |at: usize| {
        // SAFETY: the caller's promise.
        unsafe { *begin.add(at) }
    };
    let [not_r, not_x, not_b] = [7, 6, 5].map(|bit| byte(1) >> bit & 1);
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 || not_r == 0 {
        return None;
    }
    let (mode, reg, rm) = (byte(4) >> 6, byte(4) >> 3 & 7, byte(4) & 7);
    let tiles = [reg, rm, !(byte(2) >> 3) & 7].map(usize::from);
    let (opcode, prefix) = (byte(3), byte(2) & 3);
    let mut found = Instruction { opcode, prefix, mode, tiles, base: 0, scaled: 0, length: 5 };
    if mode == 3 {
        return Some(found);
    }
    let mut number = rm;
    if rm == 4 {
        let sib = byte(5);
        found.length = 6;
        let index = sib >> 3 & 7 | (1 - not_x) << 3;
        if index != 4 {
            found.scaled = register(index) << (sib >> 6);
        }
        number = sib & 7;
    }
    let no_register = mode == 0 && number == 5;
    found.base = match mode {
        1 => i64::from(byte(found.length) as i8),
        _ if mode == 2 || no_register => i64::from(i32::from_le_bytes([0, 1, 2, 3].map(|i| byte(found.length + i)))),
        _ => 0,
    };
    found.length += if mode == 2 || no_register { 4 } else { usize::from(mode) };
    match no_register {
        // Relative to what comes next.
        true if rm == 5 => found.base += begin as i64 + found.length as i64,
        true => {}
        false => found.base += register(number | (1 - not_b) << 3),
    }
    Some(found)
}

/// Does what `instruction` says to `all`; `None` if it is none of AMX's.
///
/// # Safety
/// As for [`emulate`].
unsafe fn execute(instruction: &Instruction, all: &mut Option<[TileBytes; 8]>) -> Option<()> {
    let Instruction { opcode, prefix, mode, tiles: [tile, second, third], base, scaled, .. } = *instruction;
    let row = |row: usize| (base + row as i64 * scaled) as *mut [u8; 64];
    match (opcode, prefix, mode) {
        // LDTILECFG, TILERELEASE.
        (0x49, 0, 0..=2) => {
            // SAFETY: the caller's promise.
            let config = unsafe { *((base + scaled) as *const [u8; 64]) };
            let whole = (0..8).all(|tile| config[16 + 2 * tile] == 64 && config[48 + tile] == 16);
            if config[0] != 1 || !whole {
                return None;
            }
            *all = Some([[0; 1024]; 8]);
        }
        (0x49, 0, 3) => *all = None,
        // TILEZERO.
        (0x49, 3, 3) => all.as_mut()?[tile] = [0; 1024],
        // TILELOADD, TILELOADDT1.
        (0x4b, 3 | 1, 0..=2) => {
            for (i, to) in all.as_mut()?[tile].as_chunks_mut::<64>().0.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *to = unsafe { row(i).read_unaligned() };
            }
        }
        // TILESTORED.
        (0x4b, 2, 0..=2) => {
            for (i, from) in all.as_ref()?[tile].as_chunks::<64>().0.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { row(i).write_unaligned(*from) };
            }
        }
        // TDPBF16PS.
        (0x5c, 2, 3) => {
            let all = all.as_mut()?;
            let (a, b) = (all[second], all[third]);
            multiply(&mut all[tile], &a, &b);
        }
        _ => return None,
    }
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
