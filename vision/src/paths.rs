//! Many paths in little memory.

/// Paths by number, one after the other in one text.
#[derive(Default)]
pub(crate) struct Paths {
    text: String,
    ends: Vec<usize>,
}

impl Paths {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Path `number`; panics where there is none.
    pub(crate) fn at(&self, number: usize) -> &str {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[start..self.ends[number]]
    }

    /// Adds a path behind the others.
    pub(crate) fn push(&mut self, path: &str) {
        self.text.push_str(path);
        self.ends.push(self.text.len());
    }

    /// All of them, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|number| self.at(number))
    }
}
