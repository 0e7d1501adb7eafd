//! Convolutions by Winograd's algorithm, which works on tiles of whole tensors.

use convoy_kernels::conv::{ConvShape, channel_ranges, winograd};

use super::layer::{Backward, ConvLayer, image_lengths};
use crate::ops::operation::Ports;
use crate::pass_buffers::PassBuffers;
use crate::thread_team::{cut, ranges};

/// y, image by image.
pub(super) fn forward(layer: &ConvLayer, buffers: &mut PassBuffers, ports: &Ports) {
    let mut y = buffers.pool.take(layer.shape.y_len());
    let (w, bias) = layer.weights(&buffers.values);
    let x = buffers.values.output(ports.inputs[0]);
    let [x_len, y_len] = image_lengths(layer.shape);
    let threads = buffers.team.threads(y.len(), layer.shape.n);
    threads.each(cut(&mut y, y_len, ranges(layer.shape.n, threads.count())), |(images, y)| {
        let shape = ConvShape { n: images.len(), ..layer.shape };
        winograd::forward(shape, &x[images.start * x_len..images.end * x_len], w, bias, y);
    });
    drop(threads);
    buffers.values.set_output(ports.output, y);
}

/// The weight's gradient, some output channels after the others; then dx, image by image.
pub(super) fn backward(layer: &ConvLayer, buffers: &mut PassBuffers, backward: Backward<'_>) {
    let Backward { ports, wanted, dy, dx } = backward;
    let PassBuffers { values, shard_gradient, team, .. } = buffers;
    let (shape, dy) = (layer.shape, &*dy);
    let threads = team.threads(dy.len(), shape.n);
    if wanted.parameters {
        let x = values.output(ports.inputs[0]);
        let channels = channel_ranges(shape, threads.count());
        shard_gradient.write(layer.weight, |dw| {
            threads.each(cut(dw, shape.w_len() / shape.co, channels.into_iter()), |(channels, dw)| {
                winograd::backward_weight_of(shape, channels, x, dy, dw);
            });
        });
    }
    if let Some(dx) = dx {
        let w = values.weight(layer.weight);
        let [x_len, y_len] = image_lengths(layer.shape);
        threads.each(cut(dx, x_len, ranges(shape.n, threads.count())), |(images, dx)| {
            let shape = ConvShape { n: images.len(), ..shape };
            winograd::backward_data(shape, &dy[images.start * y_len..images.end * y_len], w, dx);
        });
    }
}
