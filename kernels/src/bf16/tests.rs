use proptest::prelude::*;

use super::*;
use crate::test_support::{noise, on_every_level};

const UNIT: ConvShape = ConvShape {
    n: 1,
    h: 1,
    w: 1,
    ci: 1,
    co: 1,
    kh: 1,
    kw: 1,
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    groups: 1,
};

/// Odd, non-square, strided, padded, dilated and grouped shapes, of few images and many.
fn shapes() -> impl Strategy<Value = ConvShape> {
    let images = prop_oneof![1usize..5, 5usize..21, Just(8), Just(16), Just(32), Just(40)];
    let image = (images, 1usize..9, 1usize..9);
    let kernel = (1usize..4, 1usize..4);
    let pair = |max: usize| [1..=max, 1..=max];
    let groups = prop_oneof![
        (1usize..8, 1usize..8, Just(1usize)),
        (1usize..70, 1usize..70, Just(1usize)),
        (Just(64usize), Just(32usize), Just(1usize)),
        (16usize..40, 16usize..40, 2usize..3),
        (1usize..4, 1usize..4, 2usize..4),
        (Just(1usize), Just(1usize), 2usize..70),
        (Just(1usize), 1usize..4, 2usize..6),
    ];
    (image, kernel, pair(3), [0usize..3, 0usize..3], pair(2), groups)
        .prop_map(|((n, h, w), (kh, kw), stride, padding, dilation, (ci, co, groups))| ConvShape {
            n,
            h,
            w,
            ci: ci * groups,
            co: co * groups,
            kh,
            kw,
            stride,
            padding,
            dilation,
            groups,
        })
        .prop_filter("kernel fits", |shape| shape.checked().is_ok())
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

/// [`on_every_level`], and on AMX, which is emulated where there is none.
#[track_caller]
fn on_levels_and_amx(s: ConvShape, len: usize, f: impl Fn(&mut [f32])) -> Vec<f32> {
    let found = on_every_level(len, &f);
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if s.y_len() * s.w_len() / s.co < 200_000 {
        let mut amx = vec![f32::NAN; len];
        if emulated_amx::with_amx(|| f(&mut amx)).is_some() {
            assert_same("AMX", s, &amx, &found);
        }
    }
    found
}

/// Compares the kernels with the definition, on every level; whole, and in parts.
fn check(s: ConvShape, [x_kind, w_kind, dy_kind]: [Kind; 3], seed: u64) {
    let (x, w) = (values(x_kind, seed, s.x_len()), values(w_kind, seed + 1, s.w_len()));
    let (dy, bias) = (values(dy_kind, seed + 2, s.y_len()), noise(seed + 3, s.co));
    let [x_rounded, w_rounded, dy_rounded] = [&x, &w, &dy].map(|v| definition::rounded(v));
    let (x_shape, y_shape) = (s.x_blocks(), s.y_blocks());
    let (x, dy) = (blocked(x_shape, &x), blocked(y_shape, &dy));

    let y = on_levels_and_amx(s, s.y_len(), |y| {
        let mut to = vec![Bf16::from_f32(f32::NAN); y_shape.len()];
        forward(s, &x, &PackedWeight::forward(s, &w), Some(&bias), &mut to);
        plain(y_shape, &to, y);
    });
    let expected = definition::forward(&s, &x_rounded, &w_rounded, Some(&bias));
    assert_same("y", s, &y, &definition::rounded(&expected));

    let dx = on_levels_and_amx(s, s.x_len(), |dx| {
        let mut to = vec![Bf16::from_f32(f32::NAN); x_shape.len()];
        backward_data(s, &dy, &PackedWeight::input_gradient(s, &w), &mut to);
        plain(x_shape, &to, dx);
    });
    let expected = definition::backward_data(&s, &dy_rounded, &w_rounded);
    assert_same("dx", s, &dx, &definition::rounded(&expected));

    let dw = on_levels_and_amx(s, s.w_len(), |dw| backward_weight(s, &x, &dy, dw));
    assert_same("dw", s, &dw, &definition::backward_weight(&s, &x_rounded, &dy_rounded));

    let (mut whole, mut parts) = (vec![Bf16::ZERO; y_shape.len()], vec![Bf16::ZERO; y_shape.len()]);
    let packed = PackedWeight::forward(s, &w);
    forward(s, &x, &packed, None, &mut whole);
    for (rows, y) in thirds(y_shape.rows()).zip(parts.chunks_mut(y_shape.rows().div_ceil(3) * y_shape.row_len())) {
        forward_rows(s, &x, &packed, None, rows, y);
    }
    assert_eq!(whole, parts, "rows of y of {s:?}");
    let (mut whole, mut parts) = (vec![Bf16::ZERO; x_shape.len()], vec![Bf16::ZERO; x_shape.len()]);
    let packed = PackedWeight::input_gradient(s, &w);
    backward_data(s, &dy, &packed, &mut whole);
    for (rows, dx) in thirds(x_shape.rows()).zip(parts.chunks_mut(x_shape.rows().div_ceil(3) * x_shape.row_len())) {
        backward_data_rows(s, &dy, &packed, rows, dx);
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
