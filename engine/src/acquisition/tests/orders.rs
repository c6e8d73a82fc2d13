//! What goes out: order files, and PINs of our own.

use super::*;

#[test]
fn h06_an_order_goes_out_as_a_file_that_is_whole() {
    let world = World::new(SPOOL);
    world.settle();
    let order = world.order();
    assert_eq!((order.state, order.ordered), (OrderState::Placed, 450));
    let text = world.text(OUT);
    let file: toml::Table = toml::from_str(&text).unwrap();
    for (key, value) in [
        ("order", toml::Value::Integer(1)),
        ("pins", toml::Value::Integer(450)),
        ("supplier", "blue".into()),
        ("variety", "airtime-za-1".into()),
        ("ordered_at", "2027-01-15T08:00:10Z".into()),
    ] {
        assert_eq!(file[key], value, "{text}");
    }
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 1, "nothing else is left there");
}

/// Killed anywhere, with a supplier that takes what it finds at once or later: it is told once or the order is in doubt.
#[test]
fn h06_killed_at_any_step_an_order_is_placed_once_or_in_doubt_never_twice_never_forgotten() {
    let (mut killed, mut doubts) = (0, 0);
    for (kill, taken_at_once) in kills().flat_map(|kill| [(kill, true), (kill, false)]) {
        let mut world = World::new(SPOOL);
        let mut seen = 0;
        let mut take = |world: &World| {
            if world.has(OUT) {
                fs::remove_file(world.path(OUT)).unwrap();
                seen += 1;
            }
        };
        killed += u32::from(world.killed_turn(kill));
        if taken_at_once {
            take(&world);
        }
        for _ in 0..3 {
            world.settle();
            take(&world);
            world.restart();
        }
        let order = world.order();
        match order.state {
            OrderState::Placed => assert_eq!(seen, 1, "{kill:?}"),
            OrderState::InDoubt => assert!(seen <= 1, "{kill:?}: sent {seen} times"),
            other => panic!("{kill:?}: {other}"),
        }
        doubts += u32::from(order.state == OrderState::InDoubt);
        if order.state == OrderState::InDoubt {
            world.told(Command::ResendOrder(order.number)).unwrap();
            world.settle();
            assert!(world.has(OUT), "{kill:?}: sent when asked for");
            assert_eq!(world.order().state, OrderState::Placed);
        }
    }
    assert!(killed >= 12 && doubts >= 4, "{killed} kills, {doubts} in doubt");
}

#[test]
fn h06_a_file_left_half_written_was_seen_by_nobody_but_that_cannot_be_proven() {
    let mut world = World::new(SPOOL);
    assert!(world.killed_turn(Kill { at: 1, before: false }));
    fs::create_dir_all(world.path("out")).unwrap();
    ["in", "done", "rejected"].iter().for_each(|name| fs::create_dir_all(world.path(name)).unwrap());
    fs::write(world.path("out/.order-000001.toml.tmp"), "order = 1").unwrap();
    world.settle();
    assert_eq!(world.order().state, OrderState::InDoubt);
    assert!(!world.has(OUT));
}

#[test]
fn h06_while_the_directory_fails_the_order_waits_and_goes_out_once() {
    let world = World::new(SPOOL);
    for folder in ["in", "done", "rejected"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    fs::write(world.path("out"), "a file where a folder should be").unwrap();
    world.settle();
    assert_eq!(world.order().state, OrderState::Placing);
    fs::remove_file(world.path("out")).unwrap();
    world.settle();
    assert_eq!(
        world.order().state,
        OrderState::Placing,
        "a folder that is missing is not made: is it mounted?"
    );
    fs::create_dir(world.path("out")).unwrap();
    world.settle();
    assert_eq!(world.order().state, OrderState::Placed);
    assert!(world.has(OUT));
}

#[test]
fn h06_a_hub_that_does_not_answer_does_not_make_an_order_go_out_twice() {
    let mut world = World::new(SPOOL);
    let mut acquisition = Acquisition::new(world.suppliers.clone());
    world.failing.set(true);
    assert!(world.turn(&mut acquisition));
    fs::remove_file(world.path(OUT)).expect("it went out, and the supplier took it");
    assert!(world.turn(&mut acquisition));
    assert!(!world.has(OUT), "once");
    // The hub's disk was full; it is loaded again while this process goes on.
    world.failing.set(false);
    world.restart();
    assert_eq!(world.order().state, OrderState::InDoubt);
    assert!(world.turn(&mut acquisition));
    assert_eq!(world.order().state, OrderState::Placed, "who sent it knows");
    assert!(!world.has(OUT));
}

#[test]
fn h06_an_issue_of_our_own_killed_at_any_step_is_made_once() {
    let mut killed = 0;
    for kill in kills() {
        let mut world = World::new(MINT);
        killed += u32::from(world.killed_turn(kill));
        world.settle();
        assert_eq!(world.on_hand(), 90 + 450, "{kill:?}");
        assert_eq!((world.order().received, world.order().state), (450, OrderState::Done), "{kill:?}");
    }
    assert!(killed >= 5, "{killed} kills");
}

#[test]
fn an_order_is_recognised_in_the_name_of_a_file() {
    for (name, number) in [
        ("order-000012.part-1.csv", Some(12)),
        ("order-12", Some(12)),
        ("order-000000.csv", None),
        ("order-.csv", None),
        ("reorder-1.csv", None),
        ("order-99999999999999999999999.csv", None),
    ] {
        assert_eq!(order_number(name), number.map(OrderId), "{name}");
    }
}

const OUT: &str = "out/order-000001.toml";
