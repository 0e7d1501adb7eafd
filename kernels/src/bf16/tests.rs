use proptest::prelude::*;

use super::*;
use crate::scratch::scratch;
use crate::test_support::{UNIT, conv_shapes, noise, on_every_level};

/// Odd, non-square, strided, padded, dilated and grouped shapes, of few images and many.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let images = prop_oneof![1usize..5, 5usize..21, Just(8), Just(16), Just(32), Just(40)];
    let groups = prop_oneof![
        (1usize..8, 1usize..8, Just(1usize)),
        (1usize..70, 1usize..70, Just(1usize)),
        (Just(64usize), Just(32usize), Just(1usize)),
        (16usize..40, 16usize..40, 2usize..3),
        (1usize..4, 1usize..4, 2usize..4),
        (Just(1usize), Just(1usize), 2usize..70),
        (Just(1usize), 1usize..4, 2usize..6),
    ];
    conv_shapes(images, 1..9, 1..4, groups)
        .prop_filter("the definition is slow", |s| s.y_len() * s.w_len() / s.co < 1_000_000)
}

/// What values are made of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Unit,
    /// 60 binades.
    Wide,
    /// About 2^-56, where operands become zero, with denormals and -0.0.
    Edge,
    /// With infinities and NaN.
    Infinite,
    /// So large that products and sums overflow.
    Huge,
}

const KINDS: [Kind; 5] = [Kind::Unit, Kind::Wide, Kind::Edge, Kind::Infinite, Kind::Huge];

fn values(kind: Kind, seed: u64, len: usize) -> Vec<f32> {
    let pick = noise(seed ^ 0x5eed, len);
    let value = |(v, pick): (f32, &f32)| {
        let pick = ((pick + 1.0) * 4096.0) as i32;
        match kind {
            Kind::Unit => v,
            Kind::Wide => v * libm::scalbnf(1.0, pick % 60 - 30),
            Kind::Edge => match pick % 8 {
                0 => -0.0,
                1 => v * libm::scalbnf(1.0, -130),
                2 => libm::scalbnf(1.0, -56),
                3 => f32::from_bits(libm::scalbnf(1.0, -56).to_bits() - 1),
                _ => v * libm::scalbnf(1.0, pick / 8 % 24 - 62),
            },
            Kind::Infinite => match pick % 256 {
                0 => f32::INFINITY,
                1 => f32::NEG_INFINITY,
                2 => f32::NAN,
                _ => v,
            },
            Kind::Huge => v * libm::scalbnf(1.0, pick % 20 + 55),
        }
    };
    noise(seed, len).into_iter().zip(&pick).map(value).collect()
}

#[track_caller]
fn assert_same(what: &str, s: ConvShape, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            "{what}[{i}] of {s:?} is {a:e}, should be {b:e}"
        );
    }
}

fn blocked(shape: Blocks, nhwc: &[f32]) -> Vec<Bf16> {
    let mut blocks = vec![Bf16::from_f32(f32::NAN); shape.len()];
    shape.from_nhwc(nhwc, &mut blocks);
    blocks
}

/// The tensor as NHWC, having looked at its padding.
fn plain(shape: Blocks, blocks: &[Bf16], nhwc: &mut [f32]) {
    shape.to_nhwc(blocks, nhwc);
    assert_eq!(blocked(shape, nhwc), blocks, "padding is not zero in {shape:?}");
}

/// Compares what comes of images as they are with what comes of blocks, on every level.
fn check_nhwc(s: ConvShape, x: &[f32], dy: &[Bf16], w: &[f32]) {
    let (blocks, y_shape) = (blocked(s.x_blocks(), x), s.y_blocks());
    let mut nhwc = vec![Bf16::ZERO; x.len()];
    round(x, &mut nhwc);
    let results = |x: Images<'_>| {
        let (mut y, mut dw) = (vec![Bf16::ZERO; y_shape.len()], vec![0.0; s.w_len()]);
        forward(s, x, &PackedWeight::forward(s, w), None, &mut y);
        backward_weight(s, x, dy, &mut dw);
        let mut values = vec![0.0; s.y_len()];
        plain(y_shape, &y, &mut values);
        [values, dw].concat()
    };
    let found = on_every_level(s.y_len() + s.w_len(), |to| to.copy_from_slice(&results(Images::Nhwc(&nhwc))));
    assert_same("y and dw of images as they came,", s, &found, &results(Images::Blocks(&blocks)));
}

/// Compares the kernels with the definition, on every level; whole, and in parts.
fn check(s: ConvShape, [x_kind, w_kind, dy_kind]: [Kind; 3], seed: u64) {
    let (x, w) = (values(x_kind, seed, s.x_len()), values(w_kind, seed + 1, s.w_len()));
    let (dy, bias) = (values(dy_kind, seed + 2, s.y_len()), noise(seed + 3, s.co));
    let [x_rounded, w_rounded, dy_rounded] = [&x, &w, &dy].map(|v| definition::rounded(v));
    let (x_shape, y_shape) = (s.x_blocks(), s.y_blocks());
    let (x, dy) = (blocked(x_shape, &x), blocked(y_shape, &dy));

    let y = on_every_level(s.y_len(), |y| {
        let mut to = vec![Bf16::from_f32(f32::NAN); y_shape.len()];
        forward(s, &x, &PackedWeight::forward(s, &w), Some(&bias), &mut to);
        plain(y_shape, &to, y);
    });
    let expected = definition::forward(&s, &x_rounded, &w_rounded, Some(&bias));
    assert_same("y", s, &y, &definition::rounded(&expected));

    let dx = on_every_level(s.x_len(), |dx| {
        let mut to = vec![Bf16::from_f32(f32::NAN); x_shape.len()];
        backward_data(s, &dy, &PackedWeight::input_gradient(s, &w), &mut to);
        plain(x_shape, &to, dx);
    });
    let expected = definition::backward_data(&s, &dy_rounded, &w_rounded);
    assert_same("dx", s, &dx, &definition::rounded(&expected));

    let dw = on_every_level(s.w_len(), |dw| backward_weight(s, &x, &dy, dw));
    assert_same("dw", s, &dw, &definition::backward_weight(&s, &x_rounded, &dy_rounded));

    if reads_nhwc(s) {
        check_nhwc(s, &x_rounded, &dy, &w);
    }
    let (mut whole, mut parts) = (vec![Bf16::ZERO; y_shape.len()], vec![Bf16::ZERO; y_shape.len()]);
    // Both at once, one of them in the memory of other weights.
    let other = PackedWeight::forward(s, &values(Kind::Infinite, seed + 4, s.w_len()));
    let [packed, packed_back] = PackedWeight::both([Some(other), None], s, &w);
    forward(s, &x, &PackedWeight::forward(s, &w), None, &mut whole);
    for (rows, y) in thirds(y_shape.rows()).zip(parts.chunks_mut(y_shape.rows().div_ceil(3) * y_shape.row_len())) {
        forward_rows(s, &x, &packed, None, rows, y);
    }
    assert_eq!(whole, parts, "rows of y of {s:?}");
    let (mut whole, mut parts) = (vec![Bf16::ZERO; x_shape.len()], vec![Bf16::ZERO; x_shape.len()]);
    backward_data(s, &dy, &PackedWeight::input_gradient(s, &w), &mut whole);
    for (rows, dx) in thirds(x_shape.rows()).zip(parts.chunks_mut(x_shape.rows().div_ceil(3) * x_shape.row_len())) {
        backward_data_rows(s, &dy, &packed_back, rows, dx);
    }
    assert_eq!(whole, parts, "rows of dx of {s:?}");
    let mut apart = vec![f32::NAN; s.w_len()];
    let mut rest = &mut apart[..];
    for channels in channel_ranges(s, 3) {
        let (now, later) = rest.split_at_mut(s.w_len() / s.co * channels.len());
        backward_weight_channels(s, &x, &dy, channels, now);
        rest = later;
    }
    assert_same("dw by channels", s, &apart, &dw);
}

fn thirds(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let size = rows.div_ceil(3);
    (0..rows).step_by(size).map(move |first| first..(first + size).min(rows))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_level_agrees_with_the_definition(s in shapes(), kinds in [0usize..5, 0usize..5, 0usize..5], seed in 0u64..1000) {
        check(s, kinds.map(|kind| KINDS[kind]), seed);
    }
}

#[test]
fn shapes_of_networks_agree_with_the_definition() {
    for (i, s) in [
        ConvShape { n: 20, h: 5, w: 4, ci: 3, co: 40, kh: 3, kw: 3, padding: [1, 1], ..UNIT },
        ConvShape { n: 32, h: 4, w: 4, ci: 64, co: 64, kh: 3, kw: 3, padding: [1, 1], ..UNIT },
        ConvShape { n: 8, h: 5, w: 7, ci: 33, co: 32, kh: 3, kw: 3, padding: [1, 1], ..UNIT },
        ConvShape { n: 16, h: 6, w: 6, ci: 32, co: 64, kh: 3, kw: 3, padding: [1, 1], stride: [2, 2], ..UNIT },
        // No tap is inside, and bands of which some are outside.
        ConvShape { n: 1, h: 1, w: 4, ci: 1, co: 1, kh: 1, kw: 2, padding: [0, 60], stride: [1, 200], ..UNIT },
        ConvShape { n: 2, h: 2, w: 4, ci: 1, co: 1, kh: 1, kw: 2, padding: [0, 9000], ..UNIT },
        // All taps but the middle one are outside, and far from the image.
        ConvShape { n: 2, h: 3, w: 4, ci: 3, co: 5, kh: 3, kw: 3, padding: [90, 70], dilation: [90, 70], ..UNIT },
        ConvShape { n: 1, h: 9, w: 40, ci: 32, co: 32, kh: 3, kw: 3, padding: [1, 1], ..UNIT },
        ConvShape { n: 32, h: 3, w: 3, ci: 48, co: 48, kh: 3, kw: 3, padding: [1, 1], groups: 48, ..UNIT },
        ConvShape { n: 4, h: 6, w: 5, ci: 128, co: 128, kh: 3, kw: 3, padding: [1, 1], groups: 4, ..UNIT },
        ConvShape { n: 4, h: 6, w: 5, ci: 40, co: 48, kh: 3, kw: 3, padding: [1, 1], groups: 2, ..UNIT },
    ]
    .into_iter()
    .enumerate()
    {
        for kind in KINDS {
            check(s, [kind; 3], i as u64);
            check(s, [Kind::Unit, kind, Kind::Unit], 100 + i as u64);
        }
    }
}

/// What the kernels give at this thread's level: y, dx and dw.
fn results(s: ConvShape, [x, w, dy]: &[Vec<f32>; 3]) -> [Vec<f32>; 3] {
    let (x_shape, y_shape) = (s.x_blocks(), s.y_blocks());
    let mut nhwc = vec![Bf16::ZERO; x.len()];
    round(x, &mut nhwc);
    let (x, dy) = (blocked(x_shape, x), blocked(y_shape, dy));
    let (mut y_blocks, mut dx_blocks) = (dy.clone(), x.clone());
    let [mut y, mut dx, mut dw] = [s.y_len(), s.x_len(), s.w_len()].map(|len| vec![f32::NAN; len]);
    forward(s, &x, &PackedWeight::forward(s, w), None, &mut y_blocks);
    plain(y_shape, &y_blocks, &mut y);
    backward_data(s, &dy, &PackedWeight::input_gradient(s, w), &mut dx_blocks);
    plain(x_shape, &dx_blocks, &mut dx);
    backward_weight(s, &x, &dy, &mut dw);
    if reads_nhwc(s) {
        let (mut y_again, mut dw_again) = (dy.clone(), vec![f32::NAN; s.w_len()]);
        forward(s, Images::Nhwc(&nhwc), &PackedWeight::forward(s, w), None, &mut y_again);
        backward_weight(s, Images::Nhwc(&nhwc), &dy, &mut dw_again);
        assert!(y_again == y_blocks, "y of images as they came, {s:?}");
        assert_same("dw of images as they came,", s, &dw_again, &dw);
    }
    [y, dx, dw]
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The program's own code for AMX, whose instructions are emulated where the CPU has none; see `tests/amx.rs` for
    /// the CPU's. Without AVX512_BF16 there is nothing to run it on.
    #[test]
    fn emulated_amx_has_the_bits_of_the_other_levels(
        s in shapes(), kinds in [0usize..5, 0usize..5, 0usize..5], seed in 0u64..1000
    ) {
        prop_assume!(s.y_len() * s.w_len() / s.co < 300_000);
        let [x, w, dy] = kinds.map(|kind| KINDS[kind]);
        let values = [values(x, seed, s.x_len()), values(w, seed + 1, s.w_len()), values(dy, seed + 2, s.y_len())];
        if let Some(found) = emulated_amx::with_amx(|| results(s, &values)) {
            let expected = cpu::with_level(Level::Avx512, || results(s, &values)).expect("AMX has AVX-512");
            for (what, (found, expected)) in ["y", "dx", "dw"].into_iter().zip(found.iter().zip(&expected)) {
                assert_same(what, s, found, expected);
            }
        }
    }
}

/// Rows of one position, of a first and a last one, and of every number modulo three between them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn tiles_of_x_take_turns_in_rows_of_any_width() {
    for w in 1..7 {
        let s = ConvShape { n: 20, h: 3, w, ci: 40, co: 33, kh: 3, kw: 3, padding: [1, 1], ..UNIT };
        for kind in [Kind::Unit, Kind::Infinite] {
            let [x, w] = [s.x_len(), s.w_len()].map(|len| values(Kind::Unit, 1, len));
            let values = [x, w, values(kind, 2, s.y_len())];
            let expected = cpu::with_level(Level::Portable, || results(s, &values)).expect("every CPU has it");
            if let Some(found) = emulated_amx::with_amx(|| results(s, &values)) {
                assert_same("dw", s, &found[2], &expected[2]);
            }
        }
    }
}

/// Tiles that an Intel Xeon with AMX gave: a `[16][32]`, b `[16 pairs][16 columns][2]`, sums before and after, of 1 KiB
/// each.
/// Tile t is of kind t % 9; kinds 6 and 7 have operands that are no values of the class.
const TILES: &[u8] = include_bytes!("../../tests/reference/tdpbf16ps.bin");

/// A tile of the file: operands `a[row][term]` and `b[column][term]`, sums before and after.
struct RecordedTile {
    kind: usize,
    a: Vec<[f32; 32]>,
    b: Vec<[f32; 32]>,
    before: Vec<f32>,
    after: Vec<f32>,
}

fn recorded_tiles() -> Vec<RecordedTile> {
    let half = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    let tile = |(index, bytes): (usize, &[u8])| {
        let halves: Vec<f32> = bytes[..2048].as_chunks::<2>().0.iter().map(half).collect();
        let (a, b) = halves.split_at(512);
        let sums: Vec<f32> = bytes[2048..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        RecordedTile {
            kind: index % 9,
            a: a.as_chunks::<32>().0.to_vec(),
            b: (0..16).map(|c| std::array::from_fn(|term| b[term / 2 * 32 + c * 2 + term % 2])).collect(),
            before: sums[..256].to_vec(),
            after: sums[256..].to_vec(),
        }
    };
    TILES.chunks_exact(4096).enumerate().map(tile).collect()
}

#[test]
fn the_step_is_what_amx_gave() {
    let tiles = recorded_tiles();
    for tile in tiles.iter().filter(|tile| ![6, 7].contains(&tile.kind)) {
        let step = |i: usize| step::step_of_one(tile.before[i], &tile.a[i / 16], &tile.b[i % 16]);
        let found: Vec<f32> = (0..256).map(step).collect();
        assert_same(&format!("tile of kind {}", tile.kind), UNIT, &found, &tile.after);
    }
    assert_eq!(tiles.len(), 36);
}

#[test]
fn every_level_gives_what_amx_gave() {
    let of_class =
        |values: &[[f32; 32]]| values.iter().flatten().all(|v| v.is_nan() || Bf16::from_f32(*v).to_f32() == *v);
    let mut kinds = std::collections::BTreeSet::new();
    for tile in recorded_tiles().iter().filter(|tile| of_class(&tile.a) && of_class(&tile.b)) {
        kinds.insert(tile.kind);
        let found = on_every_level(256, |sums| {
            sums.copy_from_slice(&tile.before);
            match cpu::level() {
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Level::Amx => multiply_tile::<Bf16>(tile, sums),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512Bf16 => multiply_tile::<PairedHalf>(tile, sums),
                _ => multiply_tile::<f32>(tile, sums),
            }
        });
        assert_same(&format!("tile of kind {}", tile.kind), UNIT, &found, &tile.after);
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [0, 1, 3, 4, 5, 8]);
}

/// The step of the tile as a quarter of a block.
fn multiply_tile<T: element::Element>(tile: &RecordedTile, sums: &mut [f32]) {
    let block = |rows: &[[f32; 32]]| {
        let mut block = scratch::<T>(step::BLOCK_LEN);
        let value = |i: usize| rows.get(i % BLOCK).map_or(Bf16::ZERO, |row| Bf16::from_f32(row[i / BLOCK]));
        let values: Vec<Bf16> = (0..step::BLOCK_LEN).map(value).collect();
        T::copy(&values, &mut block, step::Lies::Term);
        block_memory::Operand {
            values: block_memory::Memory::Copied(block),
            rows: 0..1,
            blocks: 1,
            positions: 1,
            first_column: 0,
            residues: 1,
            columns: 1,
            row: step::BLOCK_LEN,
            block: step::BLOCK_LEN,
            column: step::BLOCK_LEN,
        }
    };
    let (mut a, mut b) = (block(&tile.a), block(&tile.b));
    T::for_terms(&mut a, 1, &mut b);
    let mut block = [[0.0; BLOCK]; BLOCK];
    for (to, from) in block.iter_mut().zip(sums.as_chunks::<16>().0) {
        to[..16].copy_from_slice(from);
    }
    let runs = [step::Run { a: 0, a_step: 0, b: 0, count: 1 }];
    T::multiply_terms(&T::unit(), &mut block, a.values(), b.values(), &runs, false);
    for (from, to) in block.iter().zip(sums.as_chunks_mut::<16>().0) {
        to.copy_from_slice(&from[..16]);
    }
}
