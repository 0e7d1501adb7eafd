use crate::shape::{ShapeError, SlidingWindow, countable, positive};

/// Shape of a two-dimensional convolution, as `torch.nn.Conv2d` with zero padding.
///
/// x is `[n, h, w, ci]`, the weight `[co, ci / groups, kh, kw]`, y `[n, oh, ow, co]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Channels of the input.
    pub ci: usize,
    /// Channels of the output.
    pub co: usize,
    /// Height of the kernel.
    pub kh: usize,
    /// Width of the kernel.
    pub kw: usize,
    /// Steps of the kernel, down and right.
    pub stride: [usize; 2],
    /// Zeros around the input, above and below, left and right.
    pub padding: [usize; 2],
    /// Distance between the kernel's taps, down and right.
    pub dilation: [usize; 2],
    /// Channels are cut into so many groups, which don't see each other.
    pub groups: usize,
}

impl ConvShape {
    /// The same shape, if it makes sense: sizes of at least one, groups that divide both numbers of channels, a kernel
    /// that fits the padded input, tensors of at most 2^32 - 1 elements.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn checked(self) -> Result<Self, ShapeError> {
        let ConvShape { n, h, w, ci, co, kh, kw, stride, padding, dilation, groups } = self;
        positive([
            ("batch", n),
            ("height", h),
            ("width", w),
            ("input channels", ci),
            ("output channels", co),
            ("kernel height", kh),
            ("kernel width", kw),
            ("vertical stride", stride[0]),
            ("horizontal stride", stride[1]),
            ("vertical dilation", dilation[0]),
            ("horizontal dilation", dilation[1]),
            ("groups", groups),
        ])?;
        for (field, channels) in [("input channels", ci), ("output channels", co)] {
            if !channels.is_multiple_of(groups) {
                return Err(ShapeError::Groups { field, channels, groups });
            }
        }
        let (oh, ow) = (self.window(0).positions()?, self.window(1).positions()?);
        countable("padded input", &[n, h + 2 * padding[0], w + 2 * padding[1], ci])?;
        countable("output", &[n, oh, ow, co])?;
        countable("weight", &[co, ci / groups, kh, kw])?;
        Ok(self)
    }

    /// Panics, naming the shape, unless it makes sense.
    #[track_caller]
    pub(crate) fn expect_checked(&self) {
        if let Err(error) = self.checked() {
            panic!("{self:?}: {error}");
        }
    }

    fn window(&self, axis: usize) -> SlidingWindow {
        SlidingWindow {
            axis: ["height", "width"][axis],
            input: [self.h, self.w][axis],
            kernel: [self.kh, self.kw][axis],
            stride: self.stride[axis],
            padding: self.padding[axis],
            dilation: self.dilation[axis],
        }
    }

    /// Height of the output, in pixels: the positions that the window takes from top to bottom, rounded down.
    ///
    /// # Panics
    /// May panic if the shape makes no sense ([`ConvShape::checked`] is an error).
    pub fn oh(&self) -> usize {
        (self.h + 2 * self.padding[0] - (self.kh - 1) * self.dilation[0] - 1) / self.stride[0] + 1
    }

    /// Width of the output, in pixels; see [`ConvShape::oh`].
    ///
    /// # Panics
    /// As [`ConvShape::oh`].
    pub fn ow(&self) -> usize {
        (self.w + 2 * self.padding[1] - (self.kw - 1) * self.dilation[1] - 1) / self.stride[1] + 1
    }

    /// Elements of the input, `[n, h, w, ci]`.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.ci
    }

    /// Elements of the weight, `[co, ci / groups, kh, kw]`.
    pub fn w_len(&self) -> usize {
        self.co * (self.ci / self.groups) * self.kh * self.kw
    }

    /// Elements of the output, `[n, oh, ow, co]`.
    ///
    /// # Panics
    /// As [`ConvShape::oh`].
    pub fn y_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.co
    }
}
