//! Lanes and shelves under any order of claims, cuts and help: every PIN leaves exactly once.

use arbitrary::{Arbitrary, Unstructured};
use engine::ids::{BlockId, PinId, Span, VarietyId};
use engine::pool::{Handed, Lane, Shelf, Shelves};
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Arbitrary, Debug)]
enum Step {
    Add {
        count: u8,
        last_day: u8,
    },
    AddTo {
        lane: u8,
        count: u8,
        last_day: u8,
    },
    Claim {
        lane: u8,
        from_day: u8,
    },
    Help {
        lane: u8,
        from_day: u8,
    },
    Cut {
        count: u8,
        from_day: u8,
    },
    /// What is valid up to a day before this is cut for good.
    Expire {
        day: u8,
    },
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let steps = std::iter::from_fn(|| if input.is_empty() { None } else { Step::arbitrary(&mut input).ok() });
    let mut pool =
        Pool { shelves: Shelves::new(LANES), lanes: Vec::new(), blocks: 0, added: 0, gone: HashSet::new() };
    pool.lanes.resize_with(LANES, Lane::default);
    for step in steps.take(STEPS_MAX) {
        pool.take(&step);
        let held: u64 = pool.lanes.iter().map(Lane::remaining).sum();
        assert_eq!(held + pool.gone.len() as u64, pool.added);
        assert_eq!(pool.shelves.remaining(VARIETY, |_| true), held);
    }
}

struct Pool {
    shelves: Shelves<()>,
    lanes: Vec<Lane<()>>,
    blocks: u64,
    added: u64,
    gone: HashSet<PinId>,
}

impl Pool {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Add { count, last_day } => {
                let shelf = self.shelf(last_day, count);
                let handed = self.shelves.add(&shelf, 0, u32::from(count));
                handed.into_iter().for_each(|handed| self.hand(handed));
            }
            Step::AddTo { lane, count, last_day } => {
                let shelf = self.shelf(last_day, count);
                let handed = self.shelves.add_to(usize::from(lane) % LANES, shelf, 0, u32::from(count));
                self.hand(handed);
            }
            Step::Claim { lane, from_day } => {
                let claimed = self.lanes[usize::from(lane) % LANES].claim(|shelf| lasts(shelf, from_day));
                if let Some((pin, shelf)) = claimed {
                    assert!(lasts(shelf, from_day) && pin.block() == shelf.block);
                    assert!(self.gone.insert(pin), "{pin:?} left twice");
                }
            }
            Step::Help { lane, from_day } => {
                let helped =
                    self.shelves.help(usize::from(lane) % LANES, VARIETY, |shelf| lasts(shelf, from_day));
                if let Some(handed) = helped {
                    assert!(lasts(&handed.1.shelf, from_day) && handed.1.remaining() > 0);
                    self.hand(handed);
                }
            }
            Step::Cut { count, from_day } => {
                let cut = self.shelves.cut(VARIETY, u32::from(count), |shelf| lasts(shelf, from_day));
                if let Some((shelf, span)) = cut {
                    assert!(lasts(&shelf, from_day) && (1..=u32::from(count)).contains(&span.len()));
                    self.leave(span);
                }
            }
            Step::Expire { day } => {
                for (shelf, span) in self.shelves.cut_done(|shelf| !lasts(shelf, day)) {
                    assert!(!lasts(&shelf, day));
                    self.leave(span);
                }
            }
        }
    }

    fn shelf(&mut self, last_day: u8, count: u8) -> Arc<Shelf<()>> {
        self.blocks += 1;
        self.added += u64::from(count);
        let (block, last_day) = (BlockId(self.blocks), u32::from(last_day));
        Arc::new(Shelf { block, variety: VARIETY, last_day, content: () })
    }

    fn hand(&mut self, (lane, range): Handed<()>) {
        self.lanes[lane].add(range);
    }

    fn leave(&mut self, span: Span) {
        for index in span.start..span.end {
            assert!(self.gone.insert(PinId::new(span.block, index as u16)), "{span:?} left twice");
        }
    }
}

fn lasts(shelf: &Shelf<()>, from_day: u8) -> bool {
    shelf.last_day >= u32::from(from_day)
}

const LANES: usize = 3;
const VARIETY: VarietyId = VarietyId(1);
const STEPS_MAX: usize = 200;
