//! What comes in: batch files.

use super::*;

/// Killed anywhere while files come in, each file's PINs are in stock once and the file is put away with its report.
#[test]
fn h06_killed_at_any_step_a_delivery_is_taken_in_once_and_put_away() {
    let mut killed = 0;
    for kill in kills() {
        let mut world = World::new(SPOOL);
        world.settle();
        world.puts_in("order-000001.part-1.csv", &pins(0..300));
        world.puts_in("order-000001.part-2.csv", &pins(300..450));
        killed += u32::from(world.killed_turn(kill));
        world.settle();
        assert_eq!(world.on_hand(), 90 + 450, "{kill:?}");
        assert_eq!((world.order().received, world.order().state), (450, OrderState::Done), "{kill:?}");
        for (part, count) in [("order-000001.part-1.csv", 300), ("order-000001.part-2.csv", 150)] {
            assert!(world.has(&format!("done/{part}")), "{kill:?}");
            let report = world.text(&format!("done/{part}.report.txt"));
            assert!(report.contains(&format!("accepted   {count} PINs")), "{kill:?}: {report}");
        }
        let left = |folder| fs::read_dir(world.path(folder)).unwrap().count();
        assert_eq!((left("in"), left("done"), left("rejected")), (0, 4, 0), "{kill:?}");
    }
    assert!(killed >= 12, "{killed} kills");
}

#[test]
fn h06_a_part_keeps_the_order_open_and_what_comes_twice_or_with_a_bad_line_is_rejected() {
    let world = World::new(SPOOL);
    world.settle();
    world.puts_in("order-000001.part-1.csv", &pins(0..400));
    world.settle();
    assert_eq!((world.order().received, world.order().state), (400, OrderState::Placed));

    // As if it had been killed between the report and the file.
    fs::rename(world.path("done/order-000001.part-1.csv"), world.path("in/order-000001.part-1.csv")).unwrap();
    world.settle();
    assert!(world.has("done/order-000001.part-1.csv") && world.on_hand() == 90 + 400);

    // The same file again, under its name and under another.
    world.puts_in("order-000001.part-1.csv", &pins(0..400));
    world.puts_in("order-000001.again.csv", &pins(0..400));
    // One line is bad; and all that was seen before is told by line, not only the first lines of it.
    world.puts_in("order-000001.part-2.csv", &pins(400..450).replace("S0000420,", "S-20,"));
    world.puts_in("order-000001.overlap.csv", &pins(375..410));
    world.settle();
    assert_eq!((world.on_hand(), world.order().received), (90 + 400, 400));
    for name in ["order-000001.part-1.csv", "order-000001.again.csv"] {
        let report = world.text(&format!("rejected/{name}.report.txt"));
        assert!(
            report.contains("the same file was delivered before, as blue/order-000001.part-1.csv"),
            "{report}"
        );
        assert!(report.contains("accepted   0 PINs"), "{report}");
    }
    let report = world.text("rejected/order-000001.part-2.csv.report.txt");
    assert!(report.contains("line 22: the serial is not"), "{report}");
    let report = world.text("rejected/order-000001.overlap.csv.report.txt");
    assert_eq!(
        report.matches("was seen before").count(),
        50,
        "a PIN and a serial of each of 25 lines: {report}"
    );
    assert!(!report.contains("000000000375"), "no PIN: {report}");

    // Mended, under the same name; once more bad under that name.
    world.puts_in("order-000001.part-2.csv", &pins(400..450));
    world.settle();
    assert_eq!((world.on_hand(), world.order().state), (90 + 450, OrderState::Done));
    world.puts_in("order-000001.part-2.csv", "nothing of that kind\n");
    world.settle();
    assert!(
        world.has("rejected/order-000001.part-2.csv.2")
            && world.has("rejected/order-000001.part-2.csv.2.report.txt")
    );
}

#[test]
fn h06_a_file_whose_name_says_nothing_needs_a_variety_and_what_is_no_file_is_left_alone() {
    let world = World::new(SPOOL);
    world.settle();
    world.puts_in("november.csv", &pins(0..5));
    world.puts_in("order-000009.csv", &pins(5..10));
    world.puts_in("half.csv.tmp", "serial");
    fs::create_dir(world.path("in/folder")).unwrap();
    world.settle();
    assert!(world.text("rejected/november.csv.report.txt").contains("set `variety`"));
    assert!(world.text("rejected/order-000009.csv.report.txt").contains("has no order 9"));
    assert!(world.has("in/half.csv.tmp") && world.has("in/folder"));
    assert_eq!(world.on_hand(), 90);

    let loose =
        SPOOL.replace("kind = \"spool\"", "kind = \"spool\"\nvariety = \"airtime-za-1\"\nkeep_files = false");
    let world = World::new(&loose);
    world.settle();
    world.puts_in("november.csv", &pins(0..5));
    world.settle();
    assert_eq!((world.on_hand(), world.order().received), (95, 0), "of no order");
    assert!(world.has("done/november.csv.report.txt") && !world.has("done/november.csv"), "not kept");
    world.puts_in("november.csv", &pins(0..5));
    world.settle();
    assert!(world.has("rejected/november.csv"));
}
