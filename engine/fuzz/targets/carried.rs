//! Bytes as a batch of carried sessions: its items, written again, are the same items.

use engine::link::{Carried, CarriedBatch, CarriedItems, CarriedWhat, Carrying};

pub(crate) fn run(bytes: &[u8]) {
    if let Ok(carrying) = Carrying::decode(bytes) {
        assert_eq!(carrying.encode(), bytes);
    }
    let items: Vec<Carried<'_>> = CarriedItems::new(bytes).map_while(Result::ok).collect();
    let mut batch = CarriedBatch::default();
    for Carried { session, what } in &items {
        match what {
            CarriedWhat::Open { source, hello } => batch.open(*session, *source, hello),
            CarriedWhat::Frames(frames) if frames.len() > CarriedBatch::FRAMES_MAX => return,
            CarriedWhat::Frames(frames) => batch.frames(*session, frames),
            CarriedWhat::End => batch.end(*session),
        }
    }
    let mut again = Vec::new();
    batch.messages(|body| {
        assert!(body.len() <= CarriedBatch::BYTES_MAX);
        again.extend_from_slice(body);
    });
    let again: Vec<_> = CarriedItems::new(&again).map(|item| item.expect("it was written by us")).collect();
    assert_eq!(again, items);
}
