//! What a row of the fault table came to.

use serde::Serialize;

/// What the tries of a row came to.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Outcome {
    /// How often the fault happened.
    pub tries: u64,
    /// Committed steps that were taken back, over all tries.
    pub rolled_back: u64,
    /// Work that was done again.
    pub redone: Option<Redone>,
    /// From the fault, or its healing, to the next committed step.
    #[serde(skip)]
    pub seconds: Vec<f64>,
    /// Whether every committed step had the digest of an undisturbed run.
    pub equal: Option<bool>,
    /// Whether each sample was counted once.
    pub exact: Option<bool>,
    /// What was seen: messages, exit codes, figures.
    pub seen: Vec<String>,
    /// Promises that were not kept.
    pub broken: Vec<String>,
    /// Why it could not be tried.
    pub not_run: Option<String>,
}

/// Work that was done more than once, over all tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Redone {
    /// How much.
    pub amount: u64,
    /// Of what.
    pub unit: &'static str,
}

impl Outcome {
    /// A row that could not be tried here.
    pub fn not_run(why: impl Into<String>) -> Self {
        Outcome { not_run: Some(why.into()), ..Outcome::default() }
    }

    /// Notes that a promise was not kept, unless it was.
    pub fn expect(&mut self, kept: bool, promise: impl Into<String>) {
        if !kept {
            self.broken.push(promise.into());
        }
    }

    /// Notes something that was seen, once.
    pub fn saw(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.seen.contains(&what) {
            self.seen.push(what);
        }
    }

    /// Adds work that was done again.
    pub fn did_again(&mut self, amount: u64, unit: &'static str) {
        let before = self.redone.map_or(0, |redone| redone.amount);
        self.redone = Some(Redone { amount: before + amount, unit });
    }

    /// Whether all of its promises were kept; `None` if it could not be tried.
    pub fn held(&self) -> Option<bool> {
        let whole = self.equal != Some(false) && self.exact != Some(false);
        self.not_run.is_none().then_some(whole && self.broken.is_empty())
    }

    /// The seconds below which that part of the tries was, in 0 to 1.
    ///
    /// # Examples
    /// ```
    /// let row = convoy_faults::outcome::Outcome { seconds: vec![3.0, 1.0, 2.0], ..Default::default() };
    /// assert_eq!((row.quantile(0.5), row.quantile(1.0)), (Some(2.0), Some(3.0)));
    /// ```
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(at.max(1) - 1).copied()
    }
}
