//! What is carried, to where, and back.

use super::script::{Said, Scene, Till, Worker, greeting, hello, sealed};
use crate::net::home;
use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::sync::atomic::Ordering::Relaxed;
use wire::control::{Control, encode_ping};
use wire::message::TerminalId;
use wire::session::Mode;

#[test]
fn every_answer_reaches_the_connection_that_asked_whatever_their_order() {
    let scene = Scene::new(2);
    let mut server = scene.server();
    let mut tills: Vec<(u64, Till, u32)> = Vec::new();
    for id in 1..=60 {
        let (till, session) = scene.open(&mut server, id);
        tills.push((id, till, session));
    }
    for round in 0..5_u8 {
        for (id, till, _) in &mut tills {
            till.send(&[sealed(*id as u8, 60 + u16::from(round)), sealed(*id as u8, 90)].concat());
        }
        for (at, worker) in server.iter_mut().enumerate() {
            let mine: HashMap<u32, u64> = tills
                .iter()
                .filter(|(id, ..)| home(TerminalId(*id), 2) == at)
                .map(|(id, _, s)| (*s, *id))
                .collect();
            let mut asked: HashMap<u32, Vec<u8>> = HashMap::new();
            while asked.values().map(Vec::len).sum::<usize>() < mine.len() * (150 + usize::from(round)) {
                match worker.next() {
                    (session, Said::Frames(bytes)) => asked.entry(session).or_default().extend(bytes),
                    other => panic!("{other:?}"),
                }
            }
            // A map's order is another one in every run.
            for (session, bytes) in asked {
                let id = mine[&session] as u8;
                assert_eq!(bytes, [sealed(id, 60 + u16::from(round)), sealed(id, 90)].concat());
                // Cut in the middle of a frame, even of its header.
                let answer = sealed(id ^ 0x80, 100 + u16::from(id));
                worker.batch().frames(session, &answer[..1]);
                worker.batch().frames(session, &answer[1..]);
                worker.batch().frames(session, &sealed(id ^ 0x80, 40));
            }
            worker.flush().unwrap();
        }
        for (id, till, _) in &mut tills {
            let expected =
                [sealed(*id as u8 ^ 0x80, 100 + *id as u16), sealed(*id as u8 ^ 0x80, 40)].concat();
            assert_eq!(till.read(expected.len()), expected, "round {round}, terminal {id}");
        }
    }
    scene.wait_for("nothing in flight", |stats| stats.in_flight.load(Relaxed) == 0);
    let stats = scene.relay.stats();
    assert_eq!(stats.requests.load(Relaxed), 600);
    assert_eq!((stats.sessions.load(Relaxed), stats.logins.load(Relaxed)), (60, 60));
}

#[test]
fn what_is_ready_in_one_turn_travels_together() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let mut tills: Vec<(Till, u32)> = (1..=40).map(|id| scene.open(&mut server, id)).collect();
    let worker = &mut server[0];
    for round in 0..200 {
        for (till, _) in &mut tills {
            till.send(&sealed(3, 60));
        }
        (0..tills.len()).for_each(|_| drop(worker.next()));
        if worker.longest > 5 {
            return;
        }
        assert!(round < 199, "never more than {} together", worker.longest);
    }
}

#[test]
fn frames_that_come_byte_by_byte_are_carried_whole() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let mut till = scene.connect();
    for byte in hello(5, Mode::Sealed) {
        till.send(&[byte]);
    }
    let (session, said) = server[0].next();
    assert!(matches!(said, Said::Open { .. }), "{said:?}");
    server[0].frames(session, &greeting());
    till.read(greeting().len());
    let frames = [sealed(1, 32), sealed(2, 512), sealed(3, 64)];
    for byte in frames.concat() {
        till.send(&[byte]);
    }
    let mut rest = frames.iter();
    while !rest.as_slice().is_empty() {
        let Said::Frames(bytes) = server[0].next().1 else { panic!("frames of session {session} were due") };
        let mut at = 0;
        while at < bytes.len() {
            let frame = rest.next().unwrap();
            assert_eq!(bytes[at..].get(..frame.len()), Some(&frame[..]), "no frame is carried in parts");
            at += frame.len();
        }
    }
}

#[test]
fn pings_are_answered_here_and_carried_nowhere() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let (mut till, session) = scene.open(&mut server, 5);
    let mut ping = [0; 128];
    let length = encode_ping(513, &mut ping);
    till.send(&[&sealed(1, 40), &ping[..length], &sealed(2, 40)].concat());
    assert_eq!(till.control(), Control::Pong { correlation: 513 });
    assert_eq!(server[0].frames_of(session, 80), [sealed(1, 40), sealed(2, 40)].concat());
}

#[test]
fn numbers_of_sessions_grow_and_none_comes_again() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let mut last = 0;
    for _ in 0..20 {
        let (till, session) = scene.open(&mut server, 5);
        assert!(session > last, "{session} after {last}");
        last = session;
        drop(till);
        assert_eq!(server[0].next(), (session, Said::End));
        // It was on its way when the terminal left.
        server[0].frames(session, &sealed(1, 40));
    }
    let (mut till, session) = scene.open(&mut server, 5);
    server[0].frames(session, &sealed(2, 40));
    assert_eq!(till.read(40), sealed(2, 40), "and not what an earlier one was sent");
}

#[test]
fn law_9_a_terminal_that_does_not_read_is_cut_and_nobody_else_notices() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let (mut other, others) = scene.open(&mut server, 6);
    let narrow = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    narrow.set_recv_buffer_size(4096).unwrap();
    narrow.connect(&scene.address.into()).unwrap();
    let mut deaf = Till::new(narrow.into());
    let session = scene.open_on(&mut deaf, &mut server, 5);
    let worker = &mut server[0];
    let mut sent = 0;
    while scene.relay.stats().cut.load(Relaxed) == 0 {
        worker.frames(session, &sealed(1, 500).repeat(32));
        worker.frames(others, &sealed(2, 64));
        assert_eq!(other.read(64), sealed(2, 64));
        sent += 16_000;
        assert!(sent < 64 << 20, "it keeps all that nobody reads");
    }
    assert_eq!(worker.next(), (session, Said::End));
    other.send(&sealed(3, 40));
    assert_eq!(worker.frames_of(others, 40), sealed(3, 40));
    scene.wait_for("one connection", |stats| stats.connections.load(Relaxed) == 1);
}

#[test]
fn law_9_while_the_server_does_not_read_terminals_are_not_read_and_nothing_is_lost() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let mut tills: Vec<(Till, u32)> = (1..=4).map(|id| scene.open(&mut server, id)).collect();
    let frame = sealed(4, 512);
    let mut sent = vec![0_usize; tills.len()];
    for ((till, _), sent) in tills.iter_mut().zip(&mut sent) {
        till.stream.set_nonblocking(true).unwrap();
        let mut refused = 0;
        while refused < 50 {
            match till.stream.write(&frame[*sent % 512..]) {
                Ok(bytes) => (*sent, refused) = (*sent + bytes, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    refused += 1;
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
            assert!(*sent < 64 << 20, "it takes all that nobody reads");
        }
        till.stream.set_nonblocking(false).unwrap();
    }
    let mut got: HashMap<u32, usize> = HashMap::new();
    let whole = |sent: usize| sent / 512 * 512;
    let all: usize = sent.iter().map(|sent| whole(*sent)).sum();
    while got.values().sum::<usize>() < all {
        match server[0].next() {
            (session, Said::Frames(bytes)) => {
                assert!(bytes.chunks(512).all(|bytes| bytes == frame));
                *got.entry(session).or_default() += bytes.len();
            }
            other => panic!("{other:?}"),
        }
    }
    for ((_, session), sent) in tills.iter().zip(sent) {
        assert_eq!(got[session], whole(sent));
    }
}

#[test]
fn the_server_may_say_more_than_a_message_holds() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let (mut till, session) = scene.open(&mut server, 5);
    let frames: Vec<u8> = (0..400_u16).flat_map(|at| sealed(at as u8, 33 + at)).collect();
    let expected = frames.clone();
    let reader = std::thread::spawn(move || assert!(till.read(expected.len()) == expected));
    let worker: &mut Worker = &mut server[0];
    worker.frames(session, &frames);
    reader.join().unwrap();
}
