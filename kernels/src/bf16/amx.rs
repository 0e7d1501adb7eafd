//! Blocks of 32 x 32 by the tiles of AMX.
//!
//! TDPBF16PS is the step of the class for a tile of 16 x 16 sums. Tiles are used in inline assembly that names them as
//! overwritten, one for all the products of a block's sums, so that nothing is expected to stay in a tile between two.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::Bf16;
use super::block_memory::Operand;
use super::blocks::BLOCK;
use super::dot::{pairs, store};
use super::element::Element;
use super::step::{BLOCK_LEN, Run, Slide, Sums};
use crate::cpu::{self, Level};

/// All eight tiles as 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = {
    let (mut bytes_of_row, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (bytes_of_row[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    TileConfig { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_row, rows }
};

/// The tiles of this thread, configured; they are given back when it is dropped.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` is made where there is AMX, and nobody expects anything of the tiles.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}

/// The products of all runs with the sums as `$begin` makes them. Whoever uses it has a `Tiles` and has checked the
/// runs.
macro_rules! multiply_blocks {
    ($sums:ident, $a:ident, $b:ident, $runs:ident, $($begin:literal),+) => {
        // SAFETY: a `Tiles` says that the tiles are there and configured. Every block that is read lies in its slice,
        // as was just checked, and `sums` is 32 rows of 128 bytes.
        unsafe {
            asm!(
                $($begin,)+
                "mov {stride}, 64",
                "test {count}, {count}; jz 4f",
                "2:",
                "mov {a}, [{runs}]; mov {a_step}, [{runs} + 8]",
                "mov {b}, [{runs} + 16]; mov {k}, [{runs} + 24]",
                "add {runs}, 32",
                "lea {a}, [{a_base} + 2 * {a}]",
                "add {a_step}, {a_step}",
                "shl {b}, 11",
                "add {b}, {b_base}",
                "test {k}, {k}; jz 5f",
                "3:",
                // The weights stay in the first-level cache, as activations are loaded beside it.
                "tileloaddt1 tmm4, [{a} + {stride}]",
                "tileloadd tmm6, [{b} + {stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {stride} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloaddt1 tmm5, [{a} + {stride} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, {a_step}; add {b}, 2048",
                "dec {k}; jnz 3b",
                "5:",
                "dec {count}; jnz 2b",
                "4:",
                "mov {stride}, 128",
                "tilestored [{sums} + {stride}], tmm0",
                "tilestored [{sums} + {stride} + 64], tmm1",
                "tilestored [{sums} + {stride} + 2048], tmm2",
                "tilestored [{sums} + {stride} + 2112], tmm3",
                sums = in(reg) $sums.as_mut_ptr(),
                a_base = in(reg) $a.as_ptr(),
                b_base = in(reg) $b.as_ptr(),
                runs = inout(reg) $runs.as_ptr() => _,
                count = inout(reg) $runs.len() => _,
                stride = out(reg) _,
                a = out(reg) _,
                a_step = out(reg) _,
                b = out(reg) _,
                k = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    };
}

impl Element for Bf16 {
    type Unit = Tiles;

    fn unit() -> Tiles {
        assert!(cpu::level() == Level::Amx, "weights packed for AMX are multiplied on a thread that does not use it");
        // SAFETY: the level says that there is AMX, and `CONFIG` is one that every CPU with AMX takes.
        unsafe { asm!("ldtilecfg [{config}]", config = in(reg) &raw const CONFIG, options(nostack)) };
        Tiles(PhantomData)
    }

    #[inline(always)]
    fn of(value: Bf16) -> Bf16 {
        value
    }

    fn as_they_lie(tensor: &[Bf16]) -> Option<&[Bf16]> {
        Some(tensor)
    }

    fn multiply(_: &Tiles, sums: &mut Sums, a: &[Bf16], b: &[Bf16], runs: &[Run], _: bool) {
        expect_inside(a, b, runs);
        multiply_blocks!(sums, a, b, runs, "tilezero tmm0; tilezero tmm1; tilezero tmm2; tilezero tmm3");
    }

    fn multiply_terms(_: &Tiles, sums: &mut Sums, a: &[Bf16], b: &[Bf16], runs: &[Run], _: bool) {
        expect_inside(a, b, runs);
        multiply_blocks!(
            sums,
            a,
            b,
            runs,
            "mov {stride}, 128",
            "tileloadd tmm0, [{sums} + {stride}]",
            "tileloadd tmm1, [{sums} + {stride} + 64]",
            "tileloadd tmm2, [{sums} + {stride} + 2048]",
            "tileloadd tmm3, [{sums} + {stride} + 2112]"
        );
    }

    fn multiply_neighbours(_: &Tiles, sums: [&mut Sums; 3], a: &[Bf16], b: &[Bf16], rows: &[Slide], _: bool) {
        rows.iter().for_each(|row| row.expect_inside(a, b));
        let step = rows.first().map_or(0, |row| row.a_step);
        assert!(rows.iter().all(|row| row.a_step == step), "one step for all rows");
        let sums = sums.map(|sums| sums.as_flattened_mut().as_mut_ptr());
        for (half_a, half_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let tile = half_a * 16 * BLOCK + half_b * 16;
            // SAFETY: a `Tiles` says that the tiles are there and configured. Every block that a row reads lies in its
            // slice, as was just checked, and each of the sums is 32 rows of 128 bytes.
            unsafe {
                let sums = sums.map(|sums| sums.add(tile));
                slide(sums, a.as_ptr().add(half_a * 512), b.as_ptr().add(half_b * 512), rows, step);
            }
        }
    }

    fn for_terms(a: &mut Operand<'_, Bf16>, every: usize, b: &mut Operand<'_, Bf16>) {
        assert!(cpu::level() == Level::Amx);
        // SAFETY: the level says that there is AVX-512, too.
        a.turn_blocks(every, |from, to| unsafe { transpose(from, to) });
        // SAFETY: as above.
        b.turn_blocks(b.positions, |from, to| unsafe { pair_terms(from, to) });
    }

    fn pack(block: &[[Bf16; BLOCK]; BLOCK], to: &mut [Bf16]) {
        assert!(cpu::level() == Level::Amx);
        let to = to.first_chunk_mut().expect("there is room for a block");
        let block = block.as_flattened().first_chunk().expect("a block is one");
        // SAFETY: the level says that there is AVX-512, too.
        unsafe { pair_terms(block, to) }
    }

    fn pack_turned(block: &[[Bf16; BLOCK]; BLOCK], to: &mut [Bf16]) {
        assert!(cpu::level() == Level::Amx);
        let to = to.first_chunk_mut().expect("there is room for a block");
        // SAFETY: as above.
        unsafe { turn_pairs(block, to) }
    }
}

/// Adds to a tile of each of three sums what all rows give. Of x each tile is loaded once: three tiles of it are kept,
/// for the positions before, at and after the one of dy, and take turns.
///
/// # Safety
/// The tiles must be there and configured; for each row the tiles of `a` and `b` that it names must be in memory, and
/// each of the sums 16 rows, 128 bytes apart.
unsafe fn slide(sums: [*mut f32; 3], a: *const Bf16, b: *const Bf16, rows: &[Slide], a_step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            r"
            mov {stride}, 128
            tileloadd tmm0, [{first} + {stride}]
            tileloadd tmm1, [{second} + {stride}]
            tileloadd tmm2, [{third} + {stride}]
            mov {stride}, 64
            test {count}, {count}; jz 9f
            2:
            mov {a}, [{rows}]; mov {b}, [{rows} + 16]; mov {whole}, [{rows} + 24]
            lea {a}, [{a_base} + 2 * {a}]
            shl {b}, 11; add {b}, {b_base}
            tileloadd tmm4, [{a} + {stride}]
            // One position alone.
            cmp qword ptr [{rows} + 48], 0; je 3f
            tileloadd tmm6, [{b} + {stride}]
            tdpbf16ps tmm1, tmm4, tmm6
            jmp 8f
            // A first one without a tap before.
            3:
            cmp qword ptr [{rows} + 32], 0; je 4f
            tileloadd tmm7, [{b} + {stride}]
            tdpbf16ps tmm1, tmm4, tmm7
            add {a}, {a_step}; add {b}, 2048
            tileloadd tmm5, [{a} + {stride}]
            tdpbf16ps tmm2, tmm5, tmm7
            jmp 5f
            4:
            sub {a}, {a_step}
            tileloadd tmm3, [{a} + {stride}]
            add {a}, {a_step}
            // Whole ones; {a} is the tile at the position, the one after it is loaded.
            6:
            test {whole}, {whole}; jz 20f
            add {a}, {a_step}
            tileloadd tmm6, [{b} + {stride}]
            tileloadd tmm5, [{a} + {stride}]
            tdpbf16ps tmm0, tmm3, tmm6
            tdpbf16ps tmm1, tmm4, tmm6
            tdpbf16ps tmm2, tmm5, tmm6
            add {b}, 2048; dec {whole}
            5:
            test {whole}, {whole}; jz 21f
            add {a}, {a_step}
            tileloadd tmm7, [{b} + {stride}]
            tileloadd tmm3, [{a} + {stride}]
            tdpbf16ps tmm0, tmm4, tmm7
            tdpbf16ps tmm1, tmm5, tmm7
            tdpbf16ps tmm2, tmm3, tmm7
            add {b}, 2048; dec {whole}
            test {whole}, {whole}; jz 22f
            add {a}, {a_step}
            tileloadd tmm6, [{b} + {stride}]
            tileloadd tmm4, [{a} + {stride}]
            tdpbf16ps tmm0, tmm5, tmm6
            tdpbf16ps tmm1, tmm3, tmm6
            tdpbf16ps tmm2, tmm4, tmm6
            add {b}, 2048; dec {whole}
            jmp 6b
            // A last one without a tap after.
            20:
            cmp qword ptr [{rows} + 40], 0; je 8f
            tileloadd tmm6, [{b} + {stride}]
            tdpbf16ps tmm0, tmm3, tmm6
            tdpbf16ps tmm1, tmm4, tmm6
            jmp 8f
            21:
            cmp qword ptr [{rows} + 40], 0; je 8f
            tileloadd tmm6, [{b} + {stride}]
            tdpbf16ps tmm0, tmm4, tmm6
            tdpbf16ps tmm1, tmm5, tmm6
            jmp 8f
            22:
            cmp qword ptr [{rows} + 40], 0; je 8f
            tileloadd tmm6, [{b} + {stride}]
            tdpbf16ps tmm0, tmm5, tmm6
            tdpbf16ps tmm1, tmm3, tmm6
            8:
            add {rows}, 56
            dec {count}; jnz 2b
            9:
            mov {stride}, 128
            tilestored [{first} + {stride}], tmm0
            tilestored [{second} + {stride}], tmm1
            tilestored [{third} + {stride}], tmm2
            ",
            first = in(reg) sums[0],
            second = in(reg) sums[1],
            third = in(reg) sums[2],
            a_base = in(reg) a,
            b_base = in(reg) b,
            a_step = in(reg) 2 * a_step,
            rows = inout(reg) rows.as_ptr() => _,
            count = inout(reg) rows.len() => _,
            stride = out(reg) _,
            a = out(reg) _,
            b = out(reg) _,
            whole = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Products of tiles as they are, four sums in turns: the floating-point operations that were done.
pub(super) fn multiply_registers() -> f64 {
    const ROUNDS: usize = 1 << 14;
    let _unit = Bf16::unit();
    // SAFETY: a `Tiles` says that the tiles are there and configured, and nothing but these is read or written.
    unsafe {
        asm!(
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {rounds}; jnz 2b",
            rounds = inout(reg) ROUNDS => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    (ROUNDS * 4 * 2 * 16 * 16 * BLOCK) as f64
}

/// Panics unless every block of the runs lies in its slice.
fn expect_inside(a: &[Bf16], b: &[Bf16], runs: &[Run]) {
    for run in runs.iter().filter(|run| run.count > 0) {
        let end = (run.count - 1).checked_mul(run.a_step).and_then(|last| last.checked_add(run.a + BLOCK_LEN));
        assert!(end.is_some_and(|end| end <= a.len()), "blocks of a lie in their slice");
        assert!(run.b + run.count <= b.len() / BLOCK_LEN, "blocks of b lie in their slice");
    }
}

/// A block `[term][column]` as two tiles of B: `[16 columns][pair of terms][column][term of the pair]`.
#[target_feature(enable = "avx512f,avx512bw")]
fn pair_terms(from: &[Bf16; BLOCK_LEN], to: &mut [Bf16; BLOCK_LEN]) {
    let from = from.as_chunks::<16>().0;
    for pair in 0..16 {
        for half in 0..2 {
            let both = pairs(&from[4 * pair + half], &from[4 * pair + 2 + half]);
            store(both, &mut to.as_chunks_mut::<BLOCK>().0[half * 16 + pair]);
        }
    }
}

/// A block `[column][term]` as two tiles of B: `[16 columns][pair of terms][column][term of the pair]`.
#[target_feature(enable = "avx512f,avx512bw")]
fn turn_pairs(from: &[[Bf16; BLOCK]; BLOCK], to: &mut [Bf16; BLOCK_LEN]) {
    for (columns, to) in from.as_chunks::<16>().0.iter().zip(to.as_chunks_mut::<512>().0) {
        // SAFETY: a row is 64 bytes, and the load asks for no alignment.
        let rows = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(columns[i].as_ptr().cast()) });
        for (row, to) in transpose_words(rows).into_iter().zip(to.as_chunks_mut::<BLOCK>().0) {
            store(row, to);
        }
    }
}

/// A block `[term][row]` as two tiles of A: `[row][term]`.
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(from: &[Bf16; BLOCK_LEN], to: &mut [Bf16; BLOCK_LEN]) {
    let from = from.as_chunks::<16>().0;
    for (half, to) in to.as_chunks_mut::<512>().0.iter_mut().enumerate() {
        // [pair of terms][row], of 32 bits each; then the other way round.
        let r = std::array::from_fn(|pair| pairs(&from[4 * pair + half], &from[4 * pair + 2 + half]));
        for (row, to) in transpose_words(r).into_iter().zip(to.as_chunks_mut::<BLOCK>().0) {
            store(row, to);
        }
    }
}

/// 16 x 16 of 32 bits, the other way round.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_words(r: [__m512i; 16]) -> [__m512i; 16] {
    let t: [__m512i; 16] = std::array::from_fn(|i| match i % 2 {
        0 => _mm512_unpacklo_epi32(r[i], r[i + 1]),
        _ => _mm512_unpackhi_epi32(r[i - 1], r[i]),
    });
    let r: [__m512i; 16] = std::array::from_fn(|i| {
        let (low, high) = (t[i / 4 * 4 + i % 4 / 2], t[i / 4 * 4 + i % 4 / 2 + 2]);
        if i % 2 == 0 { _mm512_unpacklo_epi64(low, high) } else { _mm512_unpackhi_epi64(low, high) }
    });
    let t: [__m512i; 16] = std::array::from_fn(|i| {
        let (low, high) = (r[i / 8 * 8 + i % 4], r[i / 8 * 8 + i % 4 + 4]);
        if i % 8 < 4 { _mm512_shuffle_i32x4::<0x88>(low, high) } else { _mm512_shuffle_i32x4::<0xdd>(low, high) }
    });
    std::array::from_fn(|i| {
        let (low, high) = (t[i % 8], t[i % 8 + 8]);
        if i < 8 { _mm512_shuffle_i32x4::<0x88>(low, high) } else { _mm512_shuffle_i32x4::<0xdd>(low, high) }
    })
}
