//! One whole sale in memory: decode the frame, claim, open the PIN, record, encode the reply. Neither sockets nor sync.

use benches::counter::{Counter, TERMINALS};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use wire::session::Mode;

fn vends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("in-process vend");
    group.throughput(Throughput::Elements(1));
    for (name, mode) in [("clear", Mode::Clear), ("sealed", Mode::Sealed)] {
        let mut counter = Counter::new(mode);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(TERMINALS as u64);
                let took: Duration = (0..rounds).map(|_| round(&mut counter)).sum();
                // As if exactly so many vends had been asked for.
                took.mul_f64(iterations as f64 / (rounds * TERMINALS as u64) as f64)
            });
        });
    }
    group.finish();
}

/// One vend of every terminal; the time from the first frame to the last reply.
fn round(counter: &mut Counter) -> Duration {
    counter.stock(TERMINALS as u64);
    let mut frames = counter.frames();
    let start = Instant::now();
    counter.sell(&mut frames);
    let took = start.elapsed();
    counter.commit();
    took
}

criterion_group!(benches, vends);
criterion_main!(benches);
