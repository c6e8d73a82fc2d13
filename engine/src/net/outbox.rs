//! Encoded replies that wait for the records they depend on.
//!
//! Replies of one turn share a ticket: the count of records made by the end of that turn. They leave in the order in
//! which they were made, when so many records are durable, so a session's frames keep their order. One buffer holds the
//! bytes of all; in steady state nothing is allocated.

use std::collections::VecDeque;
use wire::frame::REPLY_BYTES_MAX;

/// One worker's waiting replies.
#[derive(Default)]
pub(super) struct Outbox {
    /// What waits is `bytes[left..end]`; the rest is room that was used before.
    bytes: Vec<u8>,
    left: usize,
    end: usize,
    entries: VecDeque<Entry>,
    /// Tickets in ascending order, with the number of entries each stands for.
    turns: VecDeque<(u64, usize)>,
    /// Entries at the back that have no ticket yet.
    open: usize,
}

struct Entry {
    session: u64,
    bytes: usize,
}

impl Outbox {
    /// Adds what `encode` writes, for a session; returns its length.
    pub(super) fn push(&mut self, session: u64, encode: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let room_end = self.end + REPLY_BYTES_MAX;
        if self.bytes.len() < room_end {
            self.bytes.resize(room_end, 0);
        }
        let bytes = encode(&mut self.bytes[self.end..room_end]);
        self.end += bytes;
        match self.entries.back_mut() {
            Some(last) if self.open > 0 && last.session == session => last.bytes += bytes,
            _ => {
                self.entries.push_back(Entry { session, bytes });
                self.open += 1;
            }
        }
        bytes
    }

    /// How many replies wait; those of one session that follow each other in a turn are one.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Ends a turn: what was added since the last one leaves when `ticket` records are durable.
    pub(super) fn seal(&mut self, ticket: u64) {
        let entries = std::mem::take(&mut self.open);
        match self.turns.back_mut() {
            _ if entries == 0 => {}
            Some((last, waiting)) if *last == ticket => *waiting += entries,
            _ => self.turns.push_back((ticket, entries)),
        }
    }

    /// Gives out what may leave, in order.
    pub(super) fn release(&mut self, durable: u64, mut deliver: impl FnMut(u64, &[u8])) {
        while let Some(&(ticket, entries)) = self.turns.front()
            && ticket <= durable
        {
            self.turns.pop_front();
            for entry in self.entries.drain(..entries) {
                let end = self.left + entry.bytes;
                deliver(entry.session, &self.bytes[self.left..end]);
                self.left = end;
            }
        }
        if self.left > self.end / 2 {
            self.bytes.copy_within(self.left..self.end, 0);
            self.end -= self.left;
            self.left = 0;
        }
    }

    /// How many bytes wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.end - self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, session: u64, text: &[u8]) {
        outbox.push(session, |out| {
            out[..text.len()].copy_from_slice(text);
            text.len()
        });
    }

    fn release(outbox: &mut Outbox, durable: u64) -> Vec<(u64, Vec<u8>)> {
        let mut released = Vec::new();
        outbox.release(durable, |session, bytes| released.push((session, bytes.to_vec())));
        released
    }

    #[test]
    fn no_reply_leaves_before_its_records_are_durable_and_order_is_kept() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, b"a");
        outbox.seal(0);
        push(&mut outbox, 1, b"b");
        push(&mut outbox, 1, b"c");
        push(&mut outbox, 2, b"d");
        push(&mut outbox, 1, b"e");
        outbox.seal(5);
        push(&mut outbox, 2, b"f");
        assert_eq!(release(&mut outbox, 0), [(1, b"a".to_vec())]);
        assert_eq!(release(&mut outbox, 4), []);
        let expected = [(1, b"bc".to_vec()), (2, b"d".to_vec()), (1, b"e".to_vec())];
        assert_eq!(release(&mut outbox, 9), expected, "and what has no ticket yet stays");
        outbox.seal(9);
        assert_eq!(outbox.waiting_bytes(), 1);
        assert_eq!(release(&mut outbox, 9), [(2, b"f".to_vec())]);
        assert_eq!(outbox.waiting_bytes(), 0);
    }
}
