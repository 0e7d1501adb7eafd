use thiserror::Error;

/// Why a shape makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A size that must be at least one is zero.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// Name of the size.
        field: &'static str,
    },
    /// The kernel, spread by its dilation, does not fit into the padded input.
    #[error(
        "kernel spans {span} along {axis}, but the input has {input} (+ {padding} on each side); \
         use a smaller kernel or dilation, a larger input, or more padding"
    )]
    KernelTooLarge {
        /// "height" or "width".
        axis: &'static str,
        /// dilation x (kernel - 1) + 1.
        span: usize,
        /// Size of the input along the axis.
        input: usize,
        /// Padding on each side.
        padding: usize,
    },
    /// Channels cannot be divided evenly among the groups.
    #[error("{channels} {field} cannot be divided into {groups} equal groups; choose groups that divide them")]
    Groups {
        /// "input channels" or "output channels".
        field: &'static str,
        /// How many there are.
        channels: usize,
        /// Into how many groups they should go.
        groups: usize,
    },
    /// A pool's padding exceeds half its kernel, so that a window might see no input.
    #[error("padding {padding} along {axis} is more than half the pooling kernel {kernel}; use at most {}", kernel / 2)]
    PoolPadding {
        /// "height" or "width".
        axis: &'static str,
        /// Padding on each side.
        padding: usize,
        /// Size of the window.
        kernel: usize,
    },
    /// A tensor of this shape would have more elements than can be counted.
    #[error("the {tensor} would have more than {max} elements; use smaller sizes")]
    TooLarge {
        /// Which tensor.
        tensor: &'static str,
        /// The limit.
        max: usize,
    },
}

/// Most elements one tensor may have: offsets fit 32 bits, bytes fit any address space of 64 bits.
pub(crate) const MAX_ELEMENTS: usize = u32::MAX as usize;

/// Checks that each of the named sizes is at least one.
pub(crate) fn positive<const N: usize>(sizes: [(&'static str, usize); N]) -> Result<(), ShapeError> {
    match sizes.into_iter().find(|&(_, size)| size == 0) {
        Some((field, _)) => Err(ShapeError::Zero { field }),
        None => Ok(()),
    }
}

/// Checks that a tensor of these sizes can be counted.
pub(crate) fn countable(tensor: &'static str, sizes: &[usize]) -> Result<(), ShapeError> {
    let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    match count {
        Some(count) if count <= MAX_ELEMENTS => Ok(()),
        _ => Err(ShapeError::TooLarge { tensor, max: MAX_ELEMENTS }),
    }
}

/// A window sliding along one axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlidingWindow {
    pub axis: &'static str,
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl SlidingWindow {
    /// Number of positions the window takes, rounded down as PyTorch does.
    pub fn positions(self) -> Result<usize, ShapeError> {
        let too_large = ShapeError::TooLarge { tensor: "padded input", max: MAX_ELEMENTS };
        let span = (self.kernel - 1).checked_mul(self.dilation).and_then(|s| s.checked_add(1));
        let padded = self.padding.checked_mul(2).and_then(|p| p.checked_add(self.input));
        let (Some(span), Some(padded)) = (span, padded) else {
            return Err(too_large);
        };
        if span > padded {
            let SlidingWindow { axis, input, padding, .. } = self;
            return Err(ShapeError::KernelTooLarge { axis, span, input, padding });
        }
        Ok((padded - span) / self.stride + 1)
    }
}

/// Panics, naming the slice, unless it has the length its shape asks for.
#[track_caller]
pub(crate) fn expect_len(name: &str, actual: usize, expected: usize) {
    assert!(actual == expected, "`{name}` has {actual} elements, its shape asks for {expected}");
}
