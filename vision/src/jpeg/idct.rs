//! The inverse cosine transform of blocks of 8x8 in integers: constants of 12 bits behind the point, columns first,
//! rounded to 2 bits behind the point, then rows (the algorithm of the IJG's `jidctint.c`, from Loeffler, Ligtenberg
//! and Moschytz 1989, with the rounding of zune-jpeg). Sums wrap, so that their order does not matter.

/// Twelve bits behind the point: eight numbers transformed, but not rounded.
#[inline(always)]
const fn transform(i: [i32; 8]) -> [i32; 8] {
    const fn times(number: i32, factor: i32) -> i32 {
        number.wrapping_mul(factor)
    }
    // Even places.
    let p1 = times(i[2].wrapping_add(i[6]), 2217);
    let (t2, t3) = (p1.wrapping_add(times(i[6], -7567)), p1.wrapping_add(times(i[2], 3135)));
    let (t0, t1) = (i[0].wrapping_add(i[4]) << 12, i[0].wrapping_sub(i[4]) << 12);
    let (x0, x3) = (t0.wrapping_add(t3), t0.wrapping_sub(t3));
    let (x1, x2) = (t1.wrapping_add(t2), t1.wrapping_sub(t2));
    // Odd places.
    let (p1, p2) = (i[7].wrapping_add(i[1]), i[5].wrapping_add(i[3]));
    let (p3, p4) = (i[7].wrapping_add(i[3]), i[5].wrapping_add(i[1]));
    let p5 = times(p3.wrapping_add(p4), 4816);
    let (p1, p2) = (p5.wrapping_add(times(p1, -3685)), p5.wrapping_add(times(p2, -10497)));
    let (p3, p4) = (times(p3, -8034), times(p4, -1597));
    let t3 = times(i[1], 6149).wrapping_add(p1.wrapping_add(p4));
    let t2 = times(i[3], 12586).wrapping_add(p2.wrapping_add(p3));
    let t1 = times(i[5], 8410).wrapping_add(p2.wrapping_add(p4));
    let t0 = times(i[7], 1223).wrapping_add(p1.wrapping_add(p3));
    [
        x0.wrapping_add(t3),
        x1.wrapping_add(t2),
        x2.wrapping_add(t1),
        x3.wrapping_add(t0),
        x3.wrapping_sub(t0),
        x2.wrapping_sub(t1),
        x1.wrapping_sub(t2),
        x0.wrapping_sub(t3),
    ]
}

/// Row `i` is the [`transform`] of a one in place `i`.
const MATRIX: [[i32; 8]; 8] = {
    let mut matrix = [[0; 8]; 8];
    let mut place = 0;
    while place < 8 {
        let mut unit = [0; 8];
        unit[place] = 1;
        matrix[place] = transform(unit);
        place += 1;
    }
    matrix
};

/// Last place in zigzag order up to which only the first four rows and columns have coefficients.
const QUARTER: usize = 9;

/// Writes the 8x8 pixels of a block to the start of rows of `stride` numbers. `last` is the place of the last
/// coefficient in zigzag order.
#[inline(always)]
pub(super) fn block(coefficients: &[i32; 64], last: usize, out: &mut [u8], stride: usize) {
    if last == 0 {
        let pixel = (coefficients[0].wrapping_add(4 + 1024) >> 3).clamp(0, 255) as u8;
        out.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(pixel));
    } else if last <= QUARTER {
        both_passes::<4>(coefficients, out, stride);
    } else {
        both_passes::<8>(coefficients, out, stride);
    }
}

/// `SIDE` is the number of rows and columns that have coefficients.
#[inline(always)]
fn both_passes<const SIDE: usize>(coefficients: &[i32; 64], out: &mut [u8], stride: usize) {
    let rows = coefficients.as_chunks::<8>().0;
    let mut columns = [[0; 8]; 8];
    for column in 0..8 {
        let mut numbers = [0; 8];
        for row in 0..SIDE {
            numbers[row] = rows[row][column];
        }
        let numbers = transform(numbers);
        for row in 0..8 {
            columns[row][column] = numbers[row].wrapping_add(512) >> 10;
        }
    }
    for (numbers, out) in columns.iter().zip(out.chunks_mut(stride)) {
        let mut sums = [512 + 65536 + (128 << 17); 8];
        for place in 0..SIDE {
            for column in 0..8 {
                sums[column] = numbers[place].wrapping_mul(MATRIX[place][column]).wrapping_add(sums[column]);
            }
        }
        let Some(out) = out.first_chunk_mut::<8>() else { return };
        for column in 0..8 {
            out[column] = (sums[column] >> 17).clamp(0, 255) as u8;
        }
    }
}
