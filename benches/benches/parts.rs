//! What the parts of a sale cost, one by one: claim, record, append, frames, seal and open, handshake.
//!
//! `cargo bench -p benches --bench parts`. The whole sale is in `vend`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::disk::heap::HeapDisk;
use engine::ids::{BatchId, BlockId, KeyEpoch, PinId, TerminalId, VarietyId};
use engine::journal::record::{Record, VendName};
use engine::journal::{Journal, JournalOptions, Position};
use engine::pool::{Range, Shelf};
use engine::stock::{BlockKey, BlockProperties, DataKey, Expiry};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::frame::FRAME_BYTES_MAX;
use wire::message::{Attempt, Pin, Reply, Request, Serial, Sold, Vend};
use wire::session::{
    Acceptor, HANDSHAKE_BYTES, HELLO_BYTES, HandshakeInbound, Mode, SellerSession, Suite, TerminalHandshake,
    TerminalSession,
};

fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claim");
    group.throughput(Throughput::Elements(1));
    group.bench_function("front of a range", |bencher| {
        let shelf =
            Arc::new(Shelf { block: BlockId(1), variety: VarietyId(1), last_day: u32::MAX, content: () });
        let mut range = Range::new(Arc::clone(&shelf), 0, 65_536);
        bencher.iter(|| {
            range.claim().unwrap_or_else(|| {
                range = Range::new(Arc::clone(&shelf), 0, 65_536);
                PinId::new(BlockId(1), 0)
            })
        });
    });
    group.finish();
}

fn journal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode a record", |bencher| bencher.iter(|| black_box(sold_record(7)).encode()));
    for batch in [1, 64, 1000] {
        let records: Vec<_> = (1..=batch).map(|sequence| sold_record(sequence).encode()).collect();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("append {batch} records"), |bencher| {
            bencher.iter_custom(|rounds| {
                let (mut journal, mut spent) = (new_journal(), Duration::ZERO);
                for _ in 0..rounds {
                    if journal.room() < records.len() || !journal.space().try_reserve(records.len()) {
                        journal = new_journal();
                        assert!(journal.space().try_reserve(records.len()), "a new journal has room");
                    }
                    let start = Instant::now();
                    journal.append(&records);
                    spent += start.elapsed();
                    journal.sync().expect("memory does not fail");
                }
                spent
            });
        });
    }
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    for (name, mode) in [("clear", Mode::Clear), ("sealed", Mode::Sealed)] {
        let mut group = criterion.benchmark_group(format!("frames, {name}"));
        group.throughput(Throughput::Elements(1));
        let (mut terminal, mut seller) = sessions(mode);
        let mut frame = [0; FRAME_BYTES_MAX];
        let login = Request::Login(Box::new(wire::message::Login::EMPTY));
        let length = terminal.send(1, &login, &mut frame);
        seller.receive(&mut frame[..length]).expect("a login is in order");
        let welcome = terminal_welcome();
        let length = seller.send(0, &welcome, &mut frame);
        terminal.receive(&mut frame[..length]).expect("a welcome is in order");
        let vend = Request::Vend(Vend {
            attempt: Attempt::First,
            sequence: 7,
            product: 1001,
            face_value: 1000,
            deadline_ms: 10_000,
            confirmed: 1,
        });
        group.bench_function("vend, terminal to seller", |bencher| {
            bencher.iter(|| {
                let length = terminal.send(1, black_box(&vend), &mut frame);
                seller.receive(&mut frame[..length])
            });
        });
        let sold = Reply::Sold(Sold {
            sequence: 7,
            reference: 65_536,
            copy: 0,
            expiry: 20_271_231,
            pin: pin(),
            serial: serial(),
        });
        group.bench_function("sold, seller to terminal", |bencher| {
            bencher.iter(|| {
                let length = seller.send(1, black_box(&sold), &mut frame);
                terminal.receive(&mut frame[..length])
            });
        });
        group.finish();
    }
}

fn sealing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("PIN record");
    group.throughput(Throughput::Elements(1));
    let properties = BlockProperties {
        block: BlockId(1),
        variety: VarietyId(1),
        batch: BatchId(1),
        expiry: Expiry(20_271_231),
    };
    let key = BlockKey::new(properties, &DataKey::from_bytes([7; 32]));
    let record = key.seal(3, &serial(), &pin());
    group.bench_function("seal", |bencher| bencher.iter(|| key.seal(3, black_box(&serial()), &pin())));
    group.bench_function("open", |bencher| bencher.iter(|| key.open(3, black_box(&record))));
    group.finish();
}

fn handshake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("the seller's half", |bencher| {
        let (_, hello) = hello(Mode::Sealed);
        let acceptor = Acceptor::new(false);
        let mut answer = [0; HANDSHAKE_BYTES];
        bencher.iter(|| {
            let (_, hello) = acceptor.hello(black_box(&hello)).expect("a hello").expect("all of it");
            acceptor.accept(&hello, &KEY, &[2; 32], &mut answer).expect("the right key").1
        });
    });
    group.bench_function("both halves", |bencher| bencher.iter(|| sessions(Mode::Sealed)));
    group.finish();
}

fn sold_record(sequence: u64) -> Record {
    Record::Sold {
        vend: VendName { terminal: TerminalId(9), key_epoch: KeyEpoch(1), sequence },
        pin: PinId::new(BlockId(1), 5),
        variety: VarietyId(1),
        confirmed: 1,
        at_ms: 1_800_000_000_000,
    }
}

fn new_journal() -> Journal<HeapDisk> {
    let options = JournalOptions::with_segment_bytes(16 << 20);
    Journal::open(Arc::new(HeapDisk::new()), options, Position(0), Position(0), &mut |_, _| Ok(()))
        .expect("memory does not fail")
}

fn hello(mode: Mode) -> (TerminalHandshake, [u8; HELLO_BYTES]) {
    let mut frame = [0; HELLO_BYTES];
    let (terminal, epoch) = (TerminalId(9), KeyEpoch(1));
    let (handshake, _) =
        TerminalHandshake::start(terminal, epoch, Suite::AesGcm, mode, &KEY, &[1; 32], &mut frame);
    (handshake, frame)
}

fn sessions(mode: Mode) -> (TerminalSession, SellerSession) {
    let (mut terminal, hello) = hello(mode);
    let acceptor = Acceptor::new(true);
    let (_, hello) = acceptor.hello(&hello).expect("a hello").expect("all of it");
    let mut answer = [0; HANDSHAKE_BYTES];
    let (seller, _) = acceptor.accept(&hello, &KEY, &[2; 32], &mut answer).expect("the right key");
    match terminal.receive(&answer).expect("the right key") {
        Some((_, HandshakeInbound::Session(terminal))) => (terminal, seller),
        other => panic!("no session: {other:?}"),
    }
}

fn terminal_welcome() -> Reply {
    Reply::Welcome(Box::new(wire::message::Welcome {
        seller: wire::message::SellerId(1),
        key_epoch: KeyEpoch(1),
        next_sequence: 1,
        window_base: 1,
        window: 64,
        ping_interval_s: 60,
        back_off_min_ms: 500,
        back_off_max_ms: 30_000,
        catalogue_version: 1,
        addresses: wire::message::Addresses::default(),
    }))
}

fn pin() -> Pin {
    Pin::new(b"4929118377402256").expect("16 bytes fit")
}

fn serial() -> Serial {
    Serial::new(b"ZA0000012345").expect("12 bytes fit")
}

const KEY: [u8; 32] = [0x4b; 32];

criterion_group!(benches, claim, journal, frames, sealing, handshake);
criterion_main!(benches);
