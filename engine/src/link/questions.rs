//! Questions asked over links and not answered yet.

use std::collections::BTreeMap;

/// What was asked since this process started, by the number under which it was asked, with who waits for the answer.
///
/// A number is never given twice: its upper half names the start, its lower half counts. An answer may come later than the
/// connection or the process that asked, and then is nobody's; it must not be taken for the answer to another question.
#[derive(Debug)]
pub(crate) struct Questions<T> {
    last: u64,
    open: BTreeMap<u64, T>,
}

impl<T> Questions<T> {
    /// `start` is greater at every start of whoever asks.
    pub(crate) fn new(start: u32) -> Self {
        Self { last: u64::from(start) << u32::BITS, open: BTreeMap::new() }
    }

    /// The number of a new question.
    pub(crate) fn ask(&mut self, by: T) -> u64 {
        self.last += 1;
        self.open.insert(self.last, by);
        self.last
    }

    /// Who waits for an answer, if anybody still does: there is no second one.
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        self.open.remove(&number)
    }

    /// As [`take`](Self::take), of whom this is true.
    pub(crate) fn take_if(&mut self, number: u64, is_meant: impl FnOnce(&T) -> bool) -> Option<T> {
        if self.open.get(&number).is_some_and(is_meant) { self.take(number) } else { None }
    }

    /// Gives up the questions of which this is true.
    pub(crate) fn give_up(&mut self, is_over: impl Fn(&T) -> bool) -> Vec<T> {
        self.open.extract_if(.., |_, by| is_over(by)).map(|(_, by)| by).collect()
    }

    /// Who waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.open.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_an_earlier_start_is_nobodys() {
        let mut before = Questions::new(7);
        let asked: Vec<_> = (0..3).map(|by| before.ask(by)).collect();
        let mut now = Questions::new(8);
        let number = now.ask('a');
        assert!(!asked.contains(&number));
        assert!(asked.iter().all(|late| now.take(*late).is_none()));
        assert_eq!(now.take_if(number, |by| *by == 'b'), None);
        assert_eq!(now.take_if(number, |by| *by == 'a'), Some('a'));
        assert_eq!(now.take(number), None, "once");
        assert_eq!(before.give_up(|by| *by > 0), [1, 2]);
        assert_eq!(before.waiting().collect::<Vec<_>>(), [&0]);
    }
}
