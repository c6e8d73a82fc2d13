//! What must hold of speed without a clock.

use benches::counter::{Counter, TERMINALS};
use wire::session::Mode;

/// Once buffers, windows and lanes have their size, a sale allocates nothing, from frame to reply.
#[test]
fn a_sale_in_steady_state_allocates_nothing() {
    for mode in [Mode::Clear, Mode::Sealed] {
        let mut counter = Counter::new(mode);
        counter.stock(100 * TERMINALS as u64);
        // A window holds 64 sequences: by then it has its size.
        for _ in 0..70 {
            let mut frames = counter.frames();
            counter.sell(&mut frames);
            counter.commit();
        }
        for _ in 0..5 {
            let mut frames = counter.frames();
            let counted = allocation_counter::measure(|| {
                counter.sell(&mut frames);
                counter.commit();
            });
            assert_eq!(counted.count_total, 0, "{mode:?}: {counted:?} in {TERMINALS} sales");
        }
    }
}
