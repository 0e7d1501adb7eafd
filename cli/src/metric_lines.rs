//! Metrics, for people.

use convoy_common::metrics::{Metrics, OF_MEAN};

/// A line for each metric, each after a line break. An error has the error of always predicting the mean of the
/// training data beside it, where that was measured.
pub fn metric_lines(metrics: &Metrics) -> String {
    let shown = || metrics.iter().filter(|(name, _)| !is_of_mean(name));
    let width = shown().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(11);
    let mut text = String::new();
    for (name, value) in shown() {
        text.push_str(&format!("\n{name:<width$} {value:.4}"));
        if let Some(of_mean) = metrics.get(&of_mean(name)) {
            text.push_str(&format!(" (always predicting the training mean: {of_mean:.4})"));
        }
    }
    text
}

/// Whether a metric is the error of always predicting the mean.
pub fn is_of_mean(name: &str) -> bool {
    name.split('/').next().is_some_and(|kind| kind.ends_with(OF_MEAN))
}

/// The metric of always predicting the mean that belongs to `name`: `mae_of_mean/rbc` for `mae/rbc`.
fn of_mean(name: &str) -> String {
    match name.split_once('/') {
        Some((kind, target)) => format!("{kind}{OF_MEAN}/{target}"),
        None => format!("{name}{OF_MEAN}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn errors_stand_beside_those_of_the_mean() {
        let metrics = [
            ("loss", 0.25),
            ("mae", 8.0),
            ("mae/a_of_mean", 9.0),
            ("mae_of_mean", 50.5),
            ("mae_of_mean/a_of_mean", 51.0),
            ("r2", 0.5),
        ];
        expect![[r#"

            loss          0.2500
            mae           8.0000 (always predicting the training mean: 50.5000)
            mae/a_of_mean 9.0000 (always predicting the training mean: 51.0000)
            r2            0.5000"#]]
        .assert_eq(&metric_lines(&metrics.map(|(name, value)| (name.to_owned(), value)).into()));
    }
}
