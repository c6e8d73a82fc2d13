//! A table of connections, each under a key that never names another.

/// Values by key. A key names one value for ever: its slot in the low half, how often that was used in the high one. The slot
/// alone is what a socket is registered under.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    uses: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// The slot that the next value gets.
    pub(super) fn next_slot(&mut self) -> usize {
        if self.free.is_empty() {
            self.free.push(u32::try_from(self.slots.len()).expect("connections are fewer"));
            self.slots.push(Slot { uses: 0, value: None });
        }
        *self.free.last().expect("there is one") as usize
    }

    /// Puts a value into [`Slots::next_slot`]; its key.
    pub(super) fn insert(&mut self, value: T) -> u64 {
        let at = self.next_slot();
        self.free.pop();
        let slot = &mut self.slots[at];
        slot.uses = slot.uses.wrapping_add(1);
        slot.value = Some(value);
        key(slot.uses, at)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(slot_of(key))?;
        slot.value.as_mut().filter(|_| slot.uses == uses_of(key))
    }

    /// Takes a value out; its slot is free.
    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        let slot = self.slots.get_mut(slot_of(key)).filter(|slot| slot.uses == uses_of(key))?;
        let value = slot.value.take()?;
        self.free.push(key as u32);
        Some(value)
    }

    /// The key of the value in a slot, if there is one.
    pub(super) fn key_at(&self, at: usize) -> Option<u64> {
        let slot = self.slots.get(at)?;
        slot.value.is_some().then(|| key(slot.uses, at))
    }

    /// All values with their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| slot.value.as_ref().map(|value| (key(slot.uses, at), value)))
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many values there are.
    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

fn key(uses: u32, at: usize) -> u64 {
    u64::from(uses) << 32 | at as u64
}

fn slot_of(key: u64) -> usize {
    key as u32 as usize
}

fn uses_of(key: u64) -> u32 {
    (key >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_names_what_came_later_into_its_slot() {
        let mut slots = Slots::default();
        let at = slots.next_slot();
        let first = slots.insert("a");
        assert_eq!((slots.key_at(at), slots.count()), (Some(first), 1));
        assert_eq!(slots.remove(first), Some("a"));
        assert_eq!((slots.remove(first), slots.key_at(at), slots.count()), (None, None, 0));
        assert_eq!(slots.next_slot(), at, "a free slot is used again");
        let second = slots.insert("b");
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second).copied(), Some("b"));
        assert_eq!(slots.get_mut(u64::MAX), None);
        let third = slots.insert("c");
        assert_eq!(slots.slots(), 2);
        slots.remove(second);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(third, &"c")]);
        assert_eq!(slots.get_mut(third).copied(), Some("c"));
    }
}
