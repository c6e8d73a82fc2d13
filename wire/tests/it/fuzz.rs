//! The corpora of `wire/fuzz` without a fuzzer.

#[path = "../../fuzz/targets/boxes.rs"]
mod boxes;
#[path = "../../fuzz/targets/frames.rs"]
mod frames;
#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/targets/sessions.rs"]
mod sessions;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn bytes_as_frames_and_messages() {
    replay::replay(HERE, "frames", frames::run);
}

#[test]
fn bytes_to_handshakes_and_sessions() {
    replay::replay(HERE, "sessions", sessions::run);
}

#[test]
fn bytes_as_boxes() {
    replay::replay(HERE, "boxes", boxes::run);
}
