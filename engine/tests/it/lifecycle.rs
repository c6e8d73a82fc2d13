//! How sessions and processes begin and end in good order.

use crate::support::load::{Load, check_live};
use crate::support::process::{OF, PATIENCE, Process, SMALL};
use crate::support::scratch;
use crate::support::till::{Lost, Till};
use engine::cli::code;
use wire::control::ByeReason;
use wire::message::{Attempt, Login, Reply, Request, SequenceState, Vend};
use wire::session::Mode;

/// Message 1 of the handshake can be replayed by anyone: only a sealed frame proves that the terminal is there.
#[test]
fn a_second_login_replaces_the_first_only_when_its_first_sealed_frame_has_come() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 1_000);
    let key = &network.add_terminals(1)[0];
    let mut first = network.till(key);
    first.sell(Attempt::First, 1, OF).unwrap();
    let mut second = Till::connect_unlogged(network.address, key, Mode::Sealed, PATIENCE).unwrap();
    assert_eq!(second.welcome.next_sequence, 2);
    first.sell(Attempt::First, 2, OF).unwrap();
    assert_eq!(network.status().sellers[0].sessions, 1);

    let login = Login { count: 1, unresolved: [(first.welcome.seller, 2); 16] };
    match second.ask(&Request::Login(Box::new(login))).unwrap() {
        Reply::Resolved(resolved) => assert_eq!(resolved.list()[0].state, SequenceState::Sold),
        other => panic!("{other:?}"),
    }
    match first.receive() {
        Err(Lost::Bye(bye)) => assert_eq!(bye.reason, ByeReason::Replaced),
        other => panic!("the first session goes on: {other:?}"),
    }
    second.sell(Attempt::First, 3, OF).unwrap();
    assert_eq!(network.status().sellers[0].sessions, 1);
    network.audit();
}

/// What is in flight is answered, everybody is told, and the next start has next to nothing to read.
#[test]
fn a_network_that_is_told_to_stop_answers_what_it_took_and_says_goodbye() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 20_000);
    let keys = network.add_terminals(4);
    let load = Load::start(&network, &keys[1..], OF);
    let mut till = network.till(&keys[0]);
    let mut sold = 0;
    let mut asked = 0;
    let bye = 'selling: loop {
        for sequence in asked + 1..=asked + BURST {
            let (attempt, (product, face_value)) = (Attempt::First, OF);
            let confirmed = if asked == 0 { 0 } else { ((1 << BURST) - 1) << (sequence - asked - 1) };
            let vend = Vend { attempt, sequence, product, face_value, deadline_ms: 5_000, confirmed };
            // Behind a goodbye nobody reads.
            let _ = till.send(&Request::Vend(vend));
        }
        asked += BURST;
        if asked == 4 * BURST {
            network.signal("TERM");
        }
        for _ in 0..BURST {
            match till.receive() {
                Ok((_, Reply::Sold(answer))) => {
                    sold += 1;
                    assert_eq!(answer.sequence, sold, "in order");
                }
                Ok((_, Reply::Later { .. })) => {}
                Ok(other) => panic!("{other:?}"),
                Err(Lost::Bye(bye)) => break 'selling bye,
                Err(other) => panic!("no goodbye: {other:?}"),
            }
        }
    };
    assert_eq!(bye.reason, ByeReason::Stopping);
    let (status, text) = network.wait();
    assert_eq!(status.code(), Some(0), "{text}");

    let network = Process::start_small(scratch.path(), &[]);
    load.moved_to(&network);
    let mut till = network.till(&keys[0]);
    assert_eq!(till.welcome.next_sequence, sold + 1, "what it took it answered");
    let told = load.finish();
    network.audit();
    check_live(&network, &keys[1..], &told, OF);
    till.sell(Attempt::Repeat, sold + 1, OF).unwrap();
    let text = network.said();
    let records = text.split_once("records: ").and_then(|(_, rest)| rest.split_once(','));
    let records: u64 = records.and_then(|(number, _)| number.parse().ok()).expect("it says what it read");
    assert!(records < 10, "{records} records were read again after a checkpoint");
}

#[test]
fn a_second_process_is_told_who_has_the_data_directory() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 10);
    let Err(output) = Process::try_start(scratch.path(), &SMALL) else { panic!("two processes run") };
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(code::UNREACHABLE)));
    assert!(text.contains(&format!("is in use by process {}", network.pid())), "{text}");
    let key = &network.add_terminals(1)[0];
    network.till(key).sell(Attempt::First, 1, OF).unwrap();
}

const BURST: u64 = 32;
