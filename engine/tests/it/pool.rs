//! The pool under many threads: every PIN leaves it exactly once.

use crossbeam::queue::ArrayQueue;
use engine::ids::{BlockId, PinId, Span, VarietyId};
use engine::pool::{Lane, Range, Shelf, Shelves};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const WORKERS: usize = 4;
const BLOCKS: u64 = 200;
const BLOCK_PINS: u32 = 1_000;
const VARIETY: VarietyId = VarietyId(1);

/// Workers claim from their lanes while the steward adds segments, recalls from the back and helps dry lanes.
#[test]
fn law_1_every_pin_is_claimed_or_cut_exactly_once_while_ranges_are_added_cut_and_helped() {
    let inboxes: Arc<Vec<ArrayQueue<Arc<Range<()>>>>> =
        Arc::new((0..WORKERS).map(|_| ArrayQueue::new(4096)).collect());
    let dry: Arc<ArrayQueue<usize>> = Arc::new(ArrayQueue::new(WORKERS));
    let all_added = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicUsize::new((BLOCKS * u64::from(BLOCK_PINS)) as usize));

    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (inboxes, dry, left) = (inboxes.clone(), dry.clone(), left.clone());
            thread::spawn(move || {
                let mut lane = Lane::default();
                let mut claimed = Vec::new();
                // Ends when every PIN has left the pool, which the conservation below also proves.
                while left.load(Ordering::Relaxed) > 0 {
                    while let Some(range) = inboxes[worker].pop() {
                        lane.add(range);
                    }
                    match lane.claim(|_| true) {
                        Some((pin, shelf)) => {
                            assert_eq!(pin.block(), shelf.block);
                            claimed.push(pin);
                            left.fetch_sub(1, Ordering::Relaxed);
                        }
                        None => {
                            let _ = dry.push(worker);
                            thread::yield_now();
                        }
                    }
                }
                claimed
            })
        })
        .collect();

    let steward = {
        let (inboxes, dry, left, all_added) = (inboxes.clone(), dry.clone(), left.clone(), all_added.clone());
        thread::spawn(move || {
            let mut shelves = Shelves::new(WORKERS);
            let mut recalled: Vec<Span> = Vec::new();
            let hand = |(worker, range): (usize, Arc<Range<()>>)| {
                let mut range = range;
                while let Err(back) = inboxes[worker].push(range) {
                    range = back;
                    thread::yield_now();
                }
            };
            for block in 1..=BLOCKS {
                let shelf = Shelf {
                    block: BlockId(block),
                    variety: VARIETY,
                    last_day: (block % 7) as u32,
                    content: (),
                };
                // Unevenly: all to one lane now and then, so that the others must be helped.
                let shelf = Arc::new(shelf);
                if block % 3 == 0 {
                    let lane = (block % WORKERS as u64) as usize;
                    hand(shelves.add_to(lane, shelf, 0, BLOCK_PINS));
                } else {
                    shelves.add(&shelf, 0, BLOCK_PINS).into_iter().for_each(&hand);
                }
                if block % 10 == 0 {
                    let mut wanted = 150;
                    while let Some((_, span)) = shelves.cut(VARIETY, wanted, |_| true) {
                        left.fetch_sub(span.len() as usize, Ordering::Relaxed);
                        wanted -= span.len();
                        recalled.push(span);
                    }
                }
                while let Some(worker) = dry.pop() {
                    shelves.help(worker, VARIETY, |_| true).into_iter().for_each(&hand);
                }
            }
            all_added.store(true, Ordering::Relaxed);
            while left.load(Ordering::Relaxed) > 0 {
                while let Some(worker) = dry.pop() {
                    shelves.help(worker, VARIETY, |_| true).into_iter().for_each(&hand);
                }
                thread::yield_now();
            }
            recalled
        })
    };

    let mut seen = HashSet::new();
    for worker in workers {
        for pin in worker.join().unwrap() {
            assert!(seen.insert(pin), "{pin:?} left twice");
        }
    }
    for span in steward.join().unwrap() {
        for index in span.start..span.end {
            let pin = PinId::new(span.block, index as u16);
            assert!(seen.insert(pin), "{pin:?} was claimed and recalled");
        }
    }
    assert!(all_added.load(Ordering::Relaxed));
    assert_eq!(seen.len() as u64, BLOCKS * u64::from(BLOCK_PINS), "none was lost");
}
