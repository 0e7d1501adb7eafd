//! Activations of 32 values at a time.

use crate::activation::{self, Activation, write_slopes, write_values};
use crate::bf16::blocks::BLOCK;

/// Values of a block of channels.
pub(super) type Values = [f32; BLOCK];

/// An activation, of a block of values. Whoever is generic over it is compiled for cheap ones apart.
pub(super) trait BlockCurve: Copy {
    /// f(u)
    fn values(self, u: &Values) -> Values;
    /// dy f'(u)
    fn slopes(self, u: &Values, dy: &Values) -> Values;
}

impl<C: activation::Curve> BlockCurve for C {
    #[inline(always)]
    fn values(self, u: &Values) -> Values {
        let mut y = [0.0; BLOCK];
        for c in 0..BLOCK {
            y[c] = self.value(u[c]);
        }
        y
    }

    #[inline(always)]
    fn slopes(self, u: &Values, dy: &Values) -> Values {
        let mut d = [0.0; BLOCK];
        for c in 0..BLOCK {
            d[c] = self.slope(u[c], dy[c]);
        }
        d
    }
}

impl BlockCurve for Activation {
    #[inline(always)]
    fn values(self, u: &Values) -> Values {
        let mut y = [0.0; BLOCK];
        write_values(self, u, &mut y);
        y
    }

    #[inline(always)]
    fn slopes(self, u: &Values, dy: &Values) -> Values {
        let mut d = [0.0; BLOCK];
        write_slopes(self, u, &self.values(u), dy, &mut d);
        d
    }
}
