//! How sessions, connections and the relay end, and begin anew.

use super::script::{Said, Scene, Till, Worker, clock, greeting, hello, sealed};
use crate::limits::{IDLE_MS_MAX, LOGIN_MS_MAX, RELAY_HOLD_MS, RELAY_OPENS_MAX};
use crate::net::relay::RelayLimits;
use crate::time::Now;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye, encode_ping};
use wire::message::Addresses;
use wire::session::Mode;

#[test]
fn what_the_server_says_last_arrives_and_then_the_connection_ends() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let (mut till, session) = scene.open(&mut server, 5);
    let mut frame = [0; CONTROL_BYTES_MAX];
    let replaced = Bye { reason: ByeReason::Replaced, wait_ms: 5, addresses: Addresses::default() };
    let length = encode_bye(&replaced, &mut frame);
    server[0].batch().frames(session, &sealed(1, 60));
    server[0].batch().frames(session, &frame[..length]);
    server[0].end(session);
    assert_eq!(till.read(60), sealed(1, 60));
    assert_eq!(till.bye(), replaced);
    till.assert_closed();
    scene.wait_for("no session", |stats| stats.sessions.load(Relaxed) == 0);
}

#[test]
fn a_terminal_that_leaves_ends_its_session_however_it_leaves() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let mut frame = [0; CONTROL_BYTES_MAX];
    let done = Bye { reason: ByeReason::Done, wait_ms: 0, addresses: Addresses::default() };
    let length = encode_bye(&done, &mut frame);
    let leave: [&dyn Fn(Till); 3] = [
        &|till| drop(till),
        &|mut till| till.send(&frame[..length]),
        // What it said before counts.
        &|mut till| {
            till.send(&[&sealed(7, 50), &frame[..length]].concat());
        },
    ];
    for (at, leave) in leave.iter().enumerate() {
        let (till, session) = scene.open(&mut server, 5);
        leave(till);
        if at == 2 {
            assert_eq!(server[0].next(), (session, Said::Frames(sealed(7, 50))));
        }
        assert_eq!(server[0].next(), (session, Said::End));
    }
    scene.wait_for("no connection", |stats| stats.connections.load(Relaxed) == 0);
}

#[test]
fn when_the_server_is_lost_terminals_stay_and_begin_anew_with_the_next() {
    let scene = Scene::new(2);
    let mut server = scene.server();
    let mut tills: Vec<Till> = (1..=20).map(|id| scene.open(&mut server, id).0).collect();
    // One connection of it is enough.
    drop(server.remove(1));
    for till in &mut tills {
        let bye = till.bye();
        assert_eq!(bye.reason, ByeReason::Renew);
        assert!(bye.wait_ms > 0);
    }
    drop(server);
    let mut server = scene.server();
    let mut ping = [0; CONTROL_BYTES_MAX];
    let length = encode_ping(1, &mut ping);
    for (till, id) in tills.iter_mut().zip(1..) {
        // It was on its way when the session ended: it must not reach the new one.
        till.send(&[&sealed(9, 70), &ping[..length]].concat());
        let session = scene.open_on(till, &mut server, id);
        let worker = &mut server[crate::net::home(wire::message::TerminalId(id), 2)];
        till.send(&sealed(1, 40));
        assert_eq!(worker.frames_of(session, 40), sealed(1, 40));
    }
    assert_eq!(scene.relay.stats().renewed.load(Relaxed), 20);
    assert_eq!(scene.relay.stats().connections.load(Relaxed), 20);
    assert_eq!(scene.relay.stats().server().losses, 1);
}

#[test]
fn a_hello_without_a_server_waits_for_it() {
    let scene = Scene::new(1);
    let mut till = scene.connect();
    till.send(&hello(5, Mode::Sealed));
    scene.wait_for("a hello that waits", |stats| stats.waiting.load(Relaxed) == 1);
    let mut server = scene.server();
    let (session, said) = server[0].next();
    assert!(matches!(said, Said::Open { .. }), "{said:?}");
    server[0].frames(session, &greeting());
    assert_eq!(till.read(greeting().len()), greeting());
}

#[test]
fn a_hello_that_waits_for_too_long_is_to_be_said_again_and_a_silent_connection_ends() {
    static AHEAD_MS: AtomicU64 = AtomicU64::new(0);
    fn ahead() -> Now {
        let now = clock();
        Now { monotonic_ms: now.monotonic_ms + AHEAD_MS.load(Relaxed), ..now }
    }
    let scene = Scene::with(1, ahead, |_| {});
    let (mut till, mut silent) = (scene.connect(), scene.connect());
    till.send(&hello(5, Mode::Sealed));
    scene.wait_for("a hello that waits", |stats| stats.waiting.load(Relaxed) == 1);
    AHEAD_MS.store(RELAY_HOLD_MS, Relaxed);
    assert_eq!(till.bye().reason, ByeReason::Renew);
    AHEAD_MS.store(LOGIN_MS_MAX, Relaxed);
    assert_eq!(silent.last_error(), ErrorCode::Timeout);
    // Who was told to wait has longer, and may then begin anew.
    till.send(&hello(5, Mode::Sealed));
    scene.wait_for("a hello that waits", |stats| stats.waiting.load(Relaxed) == 1);
    AHEAD_MS.fetch_add(RELAY_HOLD_MS, Relaxed);
    assert_eq!(till.bye().reason, ByeReason::Renew);
    AHEAD_MS.fetch_add(3 * LOGIN_MS_MAX, Relaxed);
    assert_eq!(till.last_error(), ErrorCode::Timeout);
    scene.wait_for("no connection", |stats| stats.connections.load(Relaxed) == 0);
}

#[test]
fn a_silent_session_ends_and_one_that_the_server_does_not_answer_begins_anew() {
    static AHEAD_MS: AtomicU64 = AtomicU64::new(0);
    fn ahead() -> Now {
        let now = clock();
        Now { monotonic_ms: now.monotonic_ms + AHEAD_MS.load(Relaxed), ..now }
    }
    let scene = Scene::with(1, ahead, |options| options.link.silence_ms = u64::from(u32::MAX));
    let mut server = scene.server();
    let mut unheard = scene.connect();
    unheard.send(&hello(6, Mode::Sealed));
    let (session, said) = server[0].next();
    assert!(matches!(said, Said::Open { .. }), "{said:?}");
    AHEAD_MS.fetch_add(LOGIN_MS_MAX + 1, Relaxed);
    assert_eq!(unheard.bye().reason, ByeReason::Renew);
    assert_eq!(server[0].next(), (session, Said::End));
    let (mut till, session) = scene.open(&mut server, 5);
    AHEAD_MS.fetch_add(IDLE_MS_MAX - 5_000, Relaxed);
    till.send(&sealed(1, 40));
    assert_eq!(server[0].frames_of(session, 40), sealed(1, 40));
    AHEAD_MS.fetch_add(IDLE_MS_MAX - 5_000, Relaxed);
    let mut ping = [0; CONTROL_BYTES_MAX];
    let length = encode_ping(1, &mut ping);
    till.send(&ping[..length]);
    till.control();
    AHEAD_MS.fetch_add(IDLE_MS_MAX, Relaxed);
    assert_eq!(till.bye().reason, ByeReason::Idle);
    assert_eq!(server[0].next(), (session, Said::End));
    till.assert_closed();
}

#[test]
fn more_connections_than_allowed_are_sent_away() {
    let from = |source: [u8; 4], scene: &Scene| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&scene.address.into()).unwrap();
        Till::new(TcpStream::from(socket))
    };
    let limits = RelayLimits { connections_max: 4, connections_per_source_max: 3 };
    let scene = Scene::with(1, clock, |options| options.limits = limits);
    let mut server = scene.server();
    let mut tills: Vec<(Till, u32)> = (1..=3).map(|id| scene.open(&mut server, id)).collect();
    let mut fourth = scene.connect();
    assert_eq!(fourth.bye().reason, ByeReason::Busy, "three of one source");
    let other = from([127, 0, 0, 2], &scene);
    scene.wait_for("four connections", |stats| stats.connections.load(Relaxed) == 4);
    assert_eq!(from([127, 0, 0, 3], &scene).bye().reason, ByeReason::Busy, "four in all");
    drop((tills.pop(), other));
    scene.wait_for("two connections", |stats| stats.connections.load(Relaxed) == 2);
    let (_, session) = tills[1];
    assert!(matches!(server[0].next(), (ended, Said::End) if ended == session + 1));
    drop(scene.open(&mut server, 9));
    assert_eq!(scene.relay.stats().turned_away.load(Relaxed), 2);
}

#[test]
fn a_relay_that_stops_delivers_what_was_asked_and_sends_everybody_away() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let (mut asking, session) = scene.open(&mut server, 5);
    let (mut idle, _) = scene.open(&mut server, 6);
    asking.send(&[sealed(1, 40), sealed(2, 40)].concat());
    server[0].frames_of(session, 80);
    let relay = scene.relay.clone();
    let stopping = std::thread::spawn(move || relay.stop());
    assert_eq!(idle.bye().reason, ByeReason::Stopping);
    idle.assert_closed();
    drop(idle);
    server[0].frames(session, &sealed(3, 50));
    assert_eq!(asking.read(50), sealed(3, 50));
    server[0].frames(session, &sealed(4, 50));
    assert_eq!(asking.read(50), sealed(4, 50));
    assert_eq!(asking.bye().reason, ByeReason::Stopping);
    drop(asking);
    let began = Instant::now();
    stopping.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "it does not wait for its time to be up");
}

#[test]
fn a_server_that_says_nothing_is_lost() {
    let scene = Scene::with(1, clock, |options| {
        (options.link.ping_ms, options.link.silence_ms) = (50, 300);
    });
    let mut server = scene.server();
    let (mut till, _) = scene.open(&mut server, 5);
    // It does not answer the relay's pings.
    assert_eq!(till.bye().reason, ByeReason::Renew);
    let failure = scene.relay.stats().server().failure.unwrap();
    assert!(failure.contains("nothing was heard"), "{failure}");
}

#[test]
fn hellos_wait_their_turn_and_those_that_wait_too_long_are_said_again() {
    static AHEAD_MS: AtomicU64 = AtomicU64::new(0);
    // It stands still but for that: connecting so many takes its time on a busy machine.
    fn ahead() -> Now {
        Now { monotonic_ms: 1_000 + AHEAD_MS.load(Relaxed), unix_ms: 1_800_000_000_000 }
    }
    const ALL: u64 = RELAY_OPENS_MAX as u64 + 40;
    let scene = Scene::with(1, ahead, |options| options.link.silence_ms = u64::from(u32::MAX));
    let mut server = scene.server();
    let mut tills: Vec<Till> = (1..=ALL)
        .map(|id| {
            let mut till = scene.connect();
            till.send(&hello(id, Mode::Sealed));
            scene.wait_for("the hello", |stats| stats.accepted.load(Relaxed) == id);
            till
        })
        .collect();
    scene.wait_for("those that wait", |stats| stats.waiting.load(Relaxed) == 40);
    let mut come = 0;
    let mut next = |server: &mut Worker| match server.next() {
        (session, Said::Open { hello, .. }) => {
            come += 1;
            assert_eq!(hello[16..24], u64::to_le_bytes(come), "in the order in which they came");
            session
        }
        other => panic!("{other:?}"),
    };
    let open: Vec<u32> = (0..RELAY_OPENS_MAX).map(|_| next(&mut server[0])).collect();
    // One is answered, one is refused, and one more of the others comes for each.
    server[0].frames(open[0], &greeting());
    assert_eq!(tills[0].read(greeting().len()), greeting());
    server[0].end(open[1]);
    tills[1].assert_closed();
    next(&mut server[0]);
    next(&mut server[0]);
    scene.wait_for("those that wait", |stats| stats.waiting.load(Relaxed) == 38);
    AHEAD_MS.store(RELAY_HOLD_MS, Relaxed);
    for till in &mut tills[ALL as usize - 38..] {
        assert_eq!(till.bye().reason, ByeReason::Renew);
    }
    assert_eq!(scene.relay.stats().renewed.load(Relaxed), 38);
}
