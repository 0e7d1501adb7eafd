//! Which data sets are being looked at for jobs that are not there yet, and which are being removed: none is both.

use std::collections::{BTreeMap, BTreeSet};

use convoy_common::data_place::DataName;
use parking_lot::Mutex;

/// The claims on data sets.
#[derive(Debug, Default)]
pub(super) struct DataClaims(Mutex<Claims>);

#[derive(Debug, Default)]
struct Claims {
    /// How many look at it.
    looked_at: BTreeMap<DataName, usize>,
    removed: BTreeSet<DataName>,
}

/// A claim, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    claims: &'a DataClaims,
    names: Vec<DataName>,
    removal: bool,
}

impl DataClaims {
    /// Looks at data sets, or names one that is being removed.
    pub(super) fn look_at(&self, names: Vec<DataName>) -> Result<Claim<'_>, DataName> {
        let mut claims = self.0.lock();
        if let Some(gone) = names.iter().find(|name| claims.removed.contains(name)) {
            return Err(gone.clone());
        }
        for name in &names {
            *claims.looked_at.entry(name.clone()).or_default() += 1;
        }
        Ok(Claim { claims: self, names, removal: false })
    }

    /// Begins to remove a data set; `None` when somebody looks at it or removes it.
    pub(super) fn remove(&self, name: &DataName) -> Option<Claim<'_>> {
        let mut claims = self.0.lock();
        let free = !claims.looked_at.contains_key(name) && claims.removed.insert(name.clone());
        free.then(|| Claim { claims: self, names: vec![name.clone()], removal: true })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claims = self.claims.0.lock();
        for name in &self.names {
            if self.removal {
                claims.removed.remove(name);
            } else if let Some(count) = claims.looked_at.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    claims.looked_at.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_looked_at_or_removed() {
        let claims = DataClaims::default();
        let [a, b]: [DataName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let first = claims.look_at(vec![a.clone(), b.clone()]).unwrap();
        let second = claims.look_at(vec![a.clone()]).unwrap();
        drop(first);
        assert!(claims.remove(&a).is_none());
        let removal = claims.remove(&b).unwrap();
        assert!(claims.remove(&b).is_none());
        assert_eq!(claims.look_at(vec![a.clone(), b.clone()]).unwrap_err(), b);
        drop((second, removal));
        assert!(claims.remove(&a).is_some() && claims.look_at(vec![b]).is_ok());
    }
}
