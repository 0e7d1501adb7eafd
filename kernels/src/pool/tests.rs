use proptest::prelude::*;

use super::*;
use crate::naive::indices;
use crate::test_support::{noise, on_every_level};

fn shapes() -> impl Strategy<Value = PoolShape> {
    let window = (1usize..5).prop_flat_map(|kernel| (Just(kernel), 1usize..4, 0..=kernel / 2));
    (1usize..3, 1usize..10, 1usize..10, 1usize..40, window.clone(), window)
        .prop_map(|(n, h, w, c, (kh, sh, ph), (kw, sw, pw))| PoolShape {
            n,
            h,
            w,
            c,
            kernel: [kh, kw],
            stride: [sh, sw],
            padding: [ph, pw],
        })
        .prop_filter("window fits", |shape| shape.checked().is_ok())
}

/// The input indices of each output value's window, in order.
fn windows(s: PoolShape) -> Vec<Vec<usize>> {
    let window = |[n, oy, ox, c]: [usize; 4]| {
        let taps = indices(s.kernel).filter_map(move |[ky, kx]| {
            let y = (oy * s.stride[0] + ky).checked_sub(s.padding[0])?;
            let x = (ox * s.stride[1] + kx).checked_sub(s.padding[1])?;
            (y < s.h && x < s.w).then_some(((n * s.h + y) * s.w + x) * s.c + c)
        });
        taps.collect()
    };
    indices([s.n, s.oh(), s.ow(), s.c]).map(window).collect()
}

/// Few distinct values, so that windows have ties.
fn coarse(seed: u64, len: usize) -> Vec<f32> {
    noise(seed, len).into_iter().map(|v| (v * 3.0).round() / 3.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn max_takes_the_first_largest(s in shapes(), seed in 0u64..1000) {
        let (x, dy) = (coarse(seed, s.x_len()), coarse(seed + 1, s.y_len()));
        let (mut y, mut dx) = (vec![], vec![0.0f32; s.x_len()]);
        for (window, dy) in windows(s).iter().zip(&dy) {
            let best = window.iter().copied().reduce(|best, i| if x[i] > x[best] { i } else { best });
            let best = best.expect("a window is never empty");
            y.push(x[best]);
            dx[best] += dy;
        }
        prop_assert_eq!(on_every_level(s.y_len(), |y| max_forward(s, &x, y)), y);
        prop_assert_eq!(on_every_level(s.x_len(), |dx| max_backward(s, &x, &dy, dx)), dx);
    }

    #[test]
    fn average_divides_by_the_whole_window(s in shapes(), seed in 0u64..1000) {
        let (x, dy) = (noise(seed, s.x_len()), noise(seed + 1, s.y_len()));
        let size = (s.kernel[0] * s.kernel[1]) as f32;
        let (mut y, mut dx) = (vec![], vec![0.0f32; s.x_len()]);
        for (window, dy) in windows(s).iter().zip(&dy) {
            y.push(window.iter().fold(0.0, |sum, &i| sum + x[i]) / size);
            window.iter().for_each(|&i| dx[i] += dy / size);
        }
        prop_assert_eq!(on_every_level(s.y_len(), |y| avg_forward(s, &x, y)), y);
        prop_assert_eq!(on_every_level(s.x_len(), |dx| avg_backward(s, &dy, dx)), dx);
    }
}

#[test]
fn nan_is_never_hidden() {
    let s = PoolShape { n: 1, h: 1, w: 3, c: 1, kernel: [1, 3], stride: [1, 1], padding: [0, 0] };
    for at in 0..3 {
        let mut x = [f32::INFINITY; 3];
        x[at] = f32::NAN;
        let (mut y, mut dx) = ([0.0], [0.0; 3]);
        max_forward(s, &x, &mut y);
        max_backward(s, &x, &[1.0], &mut dx);
        assert!(y[0].is_nan());
        assert_eq!(dx[at], 1.0);
    }
}

#[test]
fn minus_infinity_has_a_first_place_too() {
    let s = PoolShape { n: 1, h: 2, w: 2, c: 1, kernel: [2, 2], stride: [1, 1], padding: [0, 0] };
    let mut dx = [0.0; 4];
    max_backward(s, &[f32::NEG_INFINITY; 4], &[1.0], &mut dx);
    assert_eq!(dx, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn global_average_is_the_mean_of_each_image() {
    let x = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 70.0];
    let (mut y, mut dx) = ([0.0; 4], [0.0; 8]);
    global_avg_forward(2, 2, 2, &x, &mut y);
    global_avg_backward(2, 2, 2, &[1.0, 2.0, 3.0, 4.0], &mut dx);
    assert_eq!(y, [2.0, 20.0, 6.0, 60.0]);
    assert_eq!(dx, [0.5, 1.0, 0.5, 1.0, 1.5, 2.0, 1.5, 2.0]);
}

#[test]
fn shapes_without_sense_are_refused() {
    let good = PoolShape { n: 1, h: 4, w: 4, c: 1, kernel: [3, 3], stride: [1, 1], padding: [1, 1] };
    assert_eq!(good.checked(), Ok(good));
    let message = |shape: PoolShape| shape.checked().expect_err("no sense").to_string();
    assert_eq!(message(PoolShape { stride: [1, 0], ..good }), "horizontal stride is 0; it must be at least 1");
    assert_eq!(
        message(PoolShape { padding: [2, 1], ..good }),
        "padding 2 along height is more than half the pooling kernel 3; use at most 1"
    );
    assert_eq!(
        message(PoolShape { kernel: [3, 9], ..good }),
        "kernel spans 9 along width, but the input has 4 (+ 1 on each side); \
         use a smaller kernel or dilation, a larger input, or more padding"
    );
}
