//! The corpora of `engine/fuzz` without a fuzzer.

#[path = "../../fuzz/targets/batch_file.rs"]
mod batch_file;
#[path = "../../fuzz/targets/carried.rs"]
mod carried;
#[path = "../../fuzz/targets/configuration.rs"]
mod configuration;
#[path = "../../fuzz/targets/hub.rs"]
mod hub;
#[path = "../../fuzz/targets/journal.rs"]
mod journal;
#[path = "../../fuzz/targets/link_messages.rs"]
mod link_messages;
#[path = "../../fuzz/targets/pool.rs"]
mod pool;
#[path = "../../../wire/fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/targets/seller.rs"]
mod seller;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn bytes_as_messages_of_a_link() {
    replay::replay(HERE, "link_messages", link_messages::run);
}

#[test]
fn bytes_as_carried_sessions() {
    replay::replay(HERE, "carried", carried::run);
}

#[test]
fn bytes_as_batch_files() {
    replay::replay(HERE, "batch_file", batch_file::run);
}

#[test]
fn text_as_configuration() {
    replay::replay(HERE, "configuration", configuration::run);
}

#[test]
fn law_7_any_life_of_a_journal() {
    replay::replay(HERE, "journal", journal::run);
}

#[test]
fn law_1_any_order_of_claims_and_cuts() {
    replay::replay(HERE, "pool", pool::run);
}

#[test]
fn law_4_any_requests_to_a_seller() {
    replay::replay(HERE, "seller", seller::run);
}

#[test]
fn law_1_any_words_to_a_hub() {
    replay::replay(HERE, "hub", hub::run);
}
