//! Sets of PIN indices as sorted, disjoint intervals: what was sold is nearly contiguous, so few are needed.

/// A set of indices below 65,536.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Spans {
    /// `start..end`, sorted, neither empty nor touching.
    intervals: Vec<(u32, u32)>,
}

impl Spans {
    /// The set of `start..end`.
    #[must_use]
    pub fn of(start: u32, end: u32) -> Self {
        let mut spans = Self::default();
        spans.insert(start, end);
        spans
    }

    /// The intervals, in order.
    #[must_use]
    pub fn intervals(&self) -> &[(u32, u32)] {
        &self.intervals
    }

    /// How many indices.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.intervals.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Whether it has this one.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let at = self.intervals.partition_point(|(_, end)| *end <= index);
        self.intervals.get(at).is_some_and(|(start, _)| *start <= index)
    }

    /// Whether it has any of `start..end`.
    #[must_use]
    pub fn overlaps(&self, start: u32, end: u32) -> bool {
        // Nearly always behind all there is: PINs are sold in order.
        if self.intervals.last().is_none_or(|last| last.1 <= start) {
            return false;
        }
        let at = self.intervals.partition_point(|interval| interval.1 <= start);
        self.intervals.get(at).is_some_and(|interval| interval.0 < end)
    }

    /// Adds `start..end`.
    pub fn insert(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        if let Some(last) = self.intervals.last_mut()
            && last.1 == start
        {
            last.1 = end;
            return;
        }
        let from = self.intervals.partition_point(|interval| interval.1 < start);
        let until = from + self.intervals[from..].partition_point(|interval| interval.0 <= end);
        if from == until {
            self.intervals.insert(from, (start, end));
            return;
        }
        let joined = (start.min(self.intervals[from].0), end.max(self.intervals[until - 1].1));
        self.intervals[from] = joined;
        self.intervals.drain(from + 1..until);
    }

    /// Takes `start..end` out.
    pub fn remove(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        let from = self.intervals.partition_point(|interval| interval.1 <= start);
        let until = from + self.intervals[from..].partition_point(|interval| interval.0 < end);
        if from == until {
            return;
        }
        let (first, last) = (self.intervals[from].0, self.intervals[until - 1].1);
        let left = (first < start).then_some((first, start));
        let right = (end < last).then_some((end, last));
        self.intervals.splice(from..until, left.into_iter().chain(right));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_of_spans_is_the_set_of_its_indices(
            steps in prop::collection::vec((any::<bool>(), 0u32..40, 0u32..12), 0..60)
        ) {
            let mut spans = Spans::default();
            let mut plain = std::collections::BTreeSet::new();
            for (insert, start, length) in steps {
                if insert {
                    spans.insert(start, start + length);
                    plain.extend(start..start + length);
                } else {
                    spans.remove(start, start + length);
                    plain.retain(|index| !(start..start + length).contains(index));
                }
                let indices: Vec<u32> = spans.intervals().iter().flat_map(|(s, e)| *s..*e).collect();
                prop_assert_eq!(indices, plain.iter().copied().collect::<Vec<_>>());
                prop_assert!(spans.intervals().windows(2).all(|pair| pair[0].1 < pair[1].0), "none touch");
                prop_assert_eq!(spans.len(), plain.len() as u64);
                for index in 0..60 {
                    prop_assert_eq!(spans.contains(index), plain.contains(&index));
                    let any = (index..index + 3).any(|i| plain.contains(&i));
                    prop_assert_eq!(spans.overlaps(index, index + 3), any);
                }
            }
        }
    }
}
