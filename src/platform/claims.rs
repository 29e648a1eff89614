//! The claimed ranges of an address space.

use std::ops::Range;

/// Ranges of addresses `K` without overlaps, each with the device for it.
pub(super) struct Claims<K, D> {
    /// In ascending order.
    list: Vec<(Range<K>, D)>,
}

impl<K, D> Default for Claims<K, D> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<K: Copy + Ord, D> Claims<K, D> {
    /// Adds a claim. The range must not be empty.
    ///
    /// # Errors
    /// Returns the range of an earlier claim that it overlaps.
    pub fn insert(&mut self, range: Range<K>, device: D) -> Result<(), Range<K>> {
        let place = self.list.partition_point(|(other, _)| other.end <= range.start);
        match self.list.get(place) {
            Some((other, _)) if other.start < range.end => Err(other.clone()),
            _ => {
                self.list.insert(place, (range, device));
                Ok(())
            }
        }
    }

    /// Returns the claim that `address` belongs to.
    pub fn find(&self, address: K) -> Option<(&Range<K>, &D)> {
        let place = self.list.partition_point(|(range, _)| range.end <= address);
        self.list.get(place).filter(|(range, _)| range.contains(&address)).map(|(range, device)| (range, device))
    }

    /// Returns the ranges, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = &Range<K>> {
        self.list.iter().map(|(range, _)| range)
    }
}
