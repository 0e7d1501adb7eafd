//! Activations that are a few instructions.

/// `$body` with `$curve` for the [`Curve`](crate::activation::Curve) that the activation is (no activation is the
/// identity), or `$other` with `$costly` for the activation if it is none.
macro_rules! by_curve {
    ($activation:expr, |$curve:ident| $body:expr, |$costly:ident| $other:expr) => {
        match $activation {
            None => {
                let $curve = crate::activation::Identity;
                $body
            }
            Some(crate::activation::Activation::Relu) => {
                let $curve = crate::activation::Relu;
                $body
            }
            Some(crate::activation::Activation::Relu6) => {
                let $curve = crate::activation::Relu6;
                $body
            }
            Some($costly) => $other,
        }
    };
}

pub(crate) use by_curve;
