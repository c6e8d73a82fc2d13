//! Two processes with a transfer between them, either of which is killed in a state of it.

use super::process::{PATIENCE, Process};
use super::till::serial;
use engine::admin::KeyRow;
use std::fmt::Debug;
use std::thread;
use std::time::Instant;
use wire::message::{Attempt, Reply};

/// Both can be stopped at a line of their logs ([`Hold`](super::hold::Hold)), killed, and started again.
pub(crate) trait Ends {
    /// Which of the two.
    type End: Copy + PartialEq + Debug + 'static;
    /// The one above, and the one below. Every other kill is of the one below, so that its waits between attempts to connect do not
    /// grow.
    const ENDS: [Self::End; 2];

    fn end(&self, end: Self::End) -> &Process;

    /// Starts an end; if it runs, it is killed first.
    fn start(&mut self, end: Self::End);

    /// The number of the node below, which takes the place of `NODE` in a state.
    fn below(&self) -> u32;

    /// Stops where a state is seen after `begin`, kills one end there and starts it again.
    fn kill_in(&mut self, (at, state): State<Self::End>, killed: Self::End, begin: impl FnOnce(&mut Self)) {
        let state = state.replace("NODE", &self.below().to_string());
        println!("{state} at the {at:?}: the {killed:?} is killed");
        self.end(at).hold().stop_at(&state);
        begin(self);
        assert!(
            self.end(at).hold().await_stop(),
            "the {at:?} never said {state}; {:?}:\n{}",
            Self::ENDS,
            Self::ENDS.map(|end| self.end(end).said()).join("\n")
        );
        self.start(killed);
        if at != killed {
            self.end(at).hold().go_on();
        }
    }

    /// The same in a transfer that a vend at the node below causes; the serial that is sold in the end.
    fn kill_in_vend(
        &mut self,
        state: State<Self::End>,
        killed: Self::End,
        key: &KeyRow,
        sequence: u64,
    ) -> String {
        let [_, below] = Self::ENDS;
        let mut till = self.end(below).till(key);
        let mut vend = None;
        self.kill_in(state, killed, |_| {
            vend = Some(thread::spawn(move || till.vend(Attempt::First, sequence, OF, 0)));
        });
        // Its seller may be gone, or has told it to come back.
        let mut reply = vend.unwrap().join().unwrap();
        let by = Instant::now() + PATIENCE;
        loop {
            match reply {
                Ok(Reply::Sold(sold)) => return serial(&sold),
                Ok(Reply::Later { .. }) | Err(_) => {}
                other => panic!("{state:?}: {other:?}"),
            }
            assert!(Instant::now() < by, "{state:?}: never sold");
            reply = self.end(below).till(key).vend(Attempt::Repeat, sequence, OF, 0);
        }
    }
}

/// A state of a transfer: where it is seen, and what is said there.
pub(crate) type State<End> = (End, &'static str);

/// All states, each with either end to be killed.
pub(crate) fn with_either_end<T: Ends>(
    states: &[State<T::End>],
) -> impl Iterator<Item = (State<T::End>, T::End)> {
    states.iter().flat_map(|state| T::ENDS.map(|end| (*state, end)))
}

const OF: (u32, u64) = (1, 1000);
